// Where the service is: the address in index.html.

export const SERVICE = document.querySelector("meta[name=service]").content.replace(/\/$/, "");
