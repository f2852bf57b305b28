"""How many uploads a worker receives, and how many downloads it sends, at the same time."""

from ..server.slots import Slots

MAX_UPLOADS = 64
MAX_PER_USER = 32

upload_slots = Slots(
    MAX_UPLOADS,
    full="This server is receiving as many files as it can; retry.",
    limit_per_user=MAX_PER_USER,
    full_for_user=f"You are already sending {MAX_PER_USER} files to this server; wait for one to arrive.",
    retry_after_s=5,
)

# a download keeps its thread while the client takes it; small ones are sent like any other response, without a slot
MAX_DOWNLOADS = 64
MAX_DOWNLOADS_PER_USER = 32
download_slots = Slots(
    MAX_DOWNLOADS,
    full="This server is sending as many files as it can; retry.",
    limit_per_user=MAX_DOWNLOADS_PER_USER,
    full_for_user=f"You are already receiving {MAX_DOWNLOADS_PER_USER} files from this server; wait for one to end.",
    retry_after_s=5,
)
