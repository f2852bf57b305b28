"""Chat completions that are stored, as OpenAI's dialect lists them: completions of /chat, with metadata."""
