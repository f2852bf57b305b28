"""The text of documents, taken out of files that anybody may have made: each in a process of its own, within limits."""
