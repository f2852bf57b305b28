// The page /docs: Swagger UI, and examples that work as they stand.
"use strict";

// The examples of the document have one id for each kind of object, see web/openapi_examples.py. A request that has one
// of them is sent with the id of an object of the caller's own: the one that was made on this page last, else the first
// of a list.
const EXAMPLE = /019ab2c4-5d6e-7f80-8000-0000000000(0[1-8])/g;
const KINDS = {
  "01": {name: "user", list: () => "/auth/me"},
  "02": {name: "conversation", made: "/chat/conversations", list: () => "/chat/conversations?limit=1"},
  "03": {name: "message", made: "/chat/messages", within: "02",
          list: conversation => `/chat/conversations/${conversation}/messages?limit=1`},
  "04": {name: "attachment", made: "/chat/attachments", within: "03",
          list: message => `/chat/messages/${message}/attachments?limit=1`},
  "05": {name: "provider", made: "/chat/llm-providers", list: () => "/chat/llm-providers?limit=1"},
  "06": {name: "completion", made: "/chat/completions", within: "02",
          list: conversation => `/chat/conversations/${conversation}/completions?limit=1`},
  "07": {name: "token", made: "/auth/tokens", list: () => "/auth/tokens?limit=1"},
  "08": {name: "invitation", made: "/auth/invitations", list: () => "/auth/invitations?limit=1"},
};

class OwnIds {
  // `get` resolves to the JSON at a path of the service, or to null.
  constructor(get) {
    this.get = get;
    this.made = {};
  }

  // The id of one of the caller's objects, or null.
  async find(kind) {
    if (this.made[kind]) return this.made[kind];
    const {list, within} = KINDS[kind];
    const outer = within ? await this.find(within) : "";
    if (outer === null) return null;
    const found = await this.get(list(outer));
    const object = Array.isArray(found) ? found[0] : found;
    return object && object.id ? object.id : null;
  }

  // The text with the ids of the caller's objects; that of an example stays where there is no such object.
  async put(text) {
    const ids = {};
    for (const [, kind] of text.matchAll(EXAMPLE)) {
      if (!(kind in ids)) ids[kind] = await this.find(kind);
    }
    return text.replace(EXAMPLE, (example, kind) => ids[kind] || example);
  }

  // Remember what was made, and forget what was deleted.
  note(path, status, object) {
    if (status === 204) {
      for (const [kind, id] of Object.entries(this.made)) {
        if (path.endsWith(`/${id}`)) delete this.made[kind];
      }
      return;
    }
    if ((status !== 201 && status !== 202) || !object || !object.id) return;
    const made = Object.keys(KINDS).find(kind => KINDS[kind].made === path);
    if (made) this.made[made] = object.id;
  }
}

function startPage() {
  const address = document.getElementById("swagger-ui").dataset.document;
  const root = address.slice(0, -"/openapi.json".length);
  const authorization = () => {
    const entered = window.ui.authSelectors.authorized().getIn(["bearer", "value"]);
    return entered ? {Authorization: `Bearer ${entered}`} : {};
  };
  const ids = new OwnIds(async path => {
    const response = await fetch(root + path, {headers: authorization()});
    return response.ok ? response.json() : null;
  });
  const pathOf = url => new URL(url, window.location.href).pathname.slice(root.length);

  window.ui = SwaggerUIBundle({
    url: address,
    dom_id: "#swagger-ui",
    layout: "StandaloneLayout",
    deepLinking: true,
    persistAuthorization: true,
    validatorUrl: null,  // by default its makers' server would get the document's address
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    requestInterceptor: async request => {
      if (request.loadSpec) return request;
      request.url = await ids.put(request.url);
      if (typeof request.body === "string") request.body = await ids.put(request.body);
      return request;
    },
    responseInterceptor: response => {
      ids.note(pathOf(response.url), response.status, response.obj);
      return response;
    },
  });
}

if (typeof window === "undefined") module.exports = {OwnIds};  // in tests
else window.addEventListener("load", startPage);
