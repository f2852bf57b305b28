"""The AI SDK's dialect: chats of `useChat`, as requests and as UI message streams. It has no tables and no SQL."""
