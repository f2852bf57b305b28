"""How much may be read of a document, and what it costs at most. The process that reads one has these as its own."""

MAX_TEXT_BYTES = 4 * 1024 * 1024  # of text that is kept, in UTF-8: some 1,500 printed pages
MAX_PAGES = 5000  # of a PDF
MAX_PAGE_BYTES = 32 * 1024 * 1024  # of a page's drawing commands, unpacked
MAX_UNPACKED_BYTES = 128 * 1024 * 1024  # of all that is read of a zip
MAX_ENTRIES = 20_000  # of a zip
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024  # of a zip
MAX_DEPTH = 500  # of XML
MAX_SHARED_BYTES = 32 * 1024 * 1024  # of the texts that a spreadsheet's cells refer to
CPU_S = 20  # after them the text that there is counts
GRACE_CPU_S = 5  # more, and the process is killed
WALL_S = 60.0
MEMORY_BYTES = 768 * 1024 * 1024
