"""/v1/files: uploads of /chat, as OpenAI's dialect says them."""
