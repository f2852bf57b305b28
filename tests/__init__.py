"""The test suite; its folders mirror those of chat_api."""
