"""How many exports and imports run at the same time. Each of them takes a slot for a stream as well."""

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
