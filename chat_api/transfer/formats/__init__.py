"""The file formats that can be imported, each as a stream of records."""
