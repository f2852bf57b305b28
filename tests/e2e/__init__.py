"""The service against a real llama.cpp server: `make test-e2e`. Its package is large, so `make test` goes without."""
