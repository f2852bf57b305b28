"""OpenAI's Responses: requests in, responses and their events out."""
