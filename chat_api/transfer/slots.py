"""How many exports and imports run at the same time. Each of them takes a slot for a stream as well, an import when its
file has been received."""

from ..server.slots import Slots

MAX_PER_WORKER = 8
MAX_PER_USER = 2  # in each worker

transfer_slots = Slots(
    MAX_PER_WORKER,
    full="This server is at its limit of concurrent exports and imports; retry.",
    limit_per_user=MAX_PER_USER,
    full_for_user=f"You already have {MAX_PER_USER} exports and imports running here; wait for one to finish.",
    retry_after_s=5,
)

MAX_UPLOADS = (
    16  # files that are being received: a client that is slow with it keeps no others from their imports
)
UPLOAD_WAIT_S = 30.0  # that a file which has been received waits for one of the slots above

upload_slots = Slots(
    MAX_UPLOADS,
    full="This server is receiving as many imports as it can; retry.",
    limit_per_user=MAX_PER_USER,
    full_for_user=f"You are already sending {MAX_PER_USER} imports to this server; wait for one to arrive.",
    retry_after_s=5,
)
