#!/bin/sh
# Walk through the API of a running service and print each response; `make demo` runs this.
#
#   BASE_URL=http://127.0.0.1:8000 sh docs/walkthrough.sh
#
# It needs sh, curl and python3, and the service's own environment for the demo provider, which it starts and stops
# (PROVIDER_URL names another one, FLASK the command of another environment). It creates a new account each time, and
# exits with a status other than 0 as soon as a response is not the expected one. The commands after "The walk" are
# those of docs/api.md, in the same order; only the lines that begin with `step` are added here.
set -eu

WORK=$(mktemp -d)
DEMO_PROVIDER=
trap '[ -z "$DEMO_PROVIDER" ] || kill "$DEMO_PROVIDER"; rm -rf "$WORK"' EXIT
SERVICE=${BASE_URL:-http://127.0.0.1:8000}
if ! curl -s -o "$WORK/healthz" --max-time 10 "$SERVICE/healthz"; then
    echo "No service answers at $SERVICE: start it with \`make run\` in another terminal, or name another" \
        "address, as in \`make demo BASE_URL=http://127.0.0.1:8001\`." >&2
    exit 1
fi
PROVIDER_URL=${PROVIDER_URL:-}
if [ -z "$PROVIDER_URL" ]; then
    # on any free port; it may take seconds to start on a busy machine
    ${FLASK:-.venv/bin/flask} --app wsgi demo-provider --port 0 >"$WORK/demo-provider" 2>&1 &
    DEMO_PROVIDER=$!
    tries=0
    while [ -z "$PROVIDER_URL" ] && kill -0 "$DEMO_PROVIDER" 2>/dev/null && [ $((tries += 1)) -le 100 ]; do
        sleep 0.2
        PROVIDER_URL=$(sed -n 's/^Model "echo" at \([^ ]*\) .*/\1/p' "$WORK/demo-provider")
    done
    if [ -z "$PROVIDER_URL" ]; then
        echo "The demo provider did not start:" >&2
        cat "$WORK/demo-provider" >&2
        exit 1
    fi
fi
exec 2>&1 # `take` prints responses on standard error; here they belong to the one stream

# step STATUS TITLE: what the next command does, and the expected status of its response
step() {
    stop_if_failed
    EXPECTED=$1
    printf '\n== %s\n' "$2"
}

# Wraps the real curl for the commands of the walk: prints the status and compares it with the expected one.
# Inside $(…) or before a pipe it can't end the script, so it leaves a note for the next step.
curl() {
    rm -f "$WORK/body"
    # 28: --max-time, where the walk disconnects in the middle
    status=$(command curl "$@" -o "$WORK/body" -w '%{http_code}') || [ $? -eq 28 ] || status='no answer'
    printf '<- %s\n' "$status" >&2
    if [ "$status" != "$EXPECTED" ]; then
        printf 'FAILED: expected %s from %s\n' "$EXPECTED" "$BASE_URL" | tee "$WORK/failed" >&2
        [ -s "$WORK/body" ] || echo '{}'
    fi
    [ ! -s "$WORK/body" ] || cat "$WORK/body"
}

stop_if_failed() {
    [ ! -e "$WORK/failed" ] || exit 1
}

# ---- The walk ----

BASE_URL=${BASE_URL:-http://127.0.0.1:8000}
EMAIL=ada.$(date +%s).$$@example.org
PASSWORD='correct horse battery staple'
JSON='Content-Type: application/json'
show() { python3 -m json.tool; }
take() { python3 -c 'import json, sys; answer = json.load(sys.stdin)
print(json.dumps(answer, indent=4), file=sys.stderr); print(answer.get(sys.argv[1], ""))' "$1"; }

step 201 'POST /auth/register: create an account'
USER_ID=$(curl -s "$BASE_URL/auth/register" -H "$JSON" \
  -d '{"email": "'$EMAIL'", "password": "'"$PASSWORD"'"}' | take id)

step 200 'POST /auth/login: get an access token and a refresh token'
LOGIN=$(curl -s "$BASE_URL/auth/login" -H "$JSON" \
  -d '{"email": "'$EMAIL'", "password": "'"$PASSWORD"'"}')
ACCESS_TOKEN=$(printf %s "$LOGIN" | take access_token)
REFRESH_TOKEN=$(printf %s "$LOGIN" | take refresh_token 2>/dev/null)
AUTH="Authorization: Bearer $ACCESS_TOKEN"

step 201 'POST /chat/conversations: create a conversation'
CONVERSATION_ID=$(curl -s "$BASE_URL/chat/conversations" -H "$AUTH" -H "$JSON" \
  -d '{"user_id": "'$USER_ID'", "title": "Trip to Lisbon"}' | take id)

step 201 'POST /chat/messages: append a message; it gets position 1'
MESSAGE_ID=$(curl -s "$BASE_URL/chat/messages" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "role": "user", "content": "Where should I eat?"}' | take id)

step 201 'POST /chat/messages: append the reply; it gets position 2'
curl -s "$BASE_URL/chat/messages" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "role": "assistant", "content": "In Alfama."}' | show

step 200 'GET /chat/conversations/{id}: message_count and updated_at have changed'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$AUTH" | show

step 200 'GET /chat/conversations/{id}/messages: all of them, oldest first'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID/messages" -H "$AUTH" | show

step 201 'POST /chat/attachments: attach a file by a path or URL of your own'
curl -s "$BASE_URL/chat/attachments" -H "$AUTH" -H "$JSON" \
  -d '{"message_id": "'$MESSAGE_ID'", "file_type": "image/png", "file_path": "uploads/map.png"}' | show

step 200 'GET /chat/messages/{id}/attachments: list the attachments of the message'
curl -s "$BASE_URL/chat/messages/$MESSAGE_ID/attachments" -H "$AUTH" | show

step 201 'POST /chat/llm-providers: add an LLM provider'
PROVIDER_ID=$(curl -s "$BASE_URL/chat/llm-providers" -H "$AUTH" -H "$JSON" \
  -d '{"name": "Example AI", "api_endpoint": "https://api.example.com/v1"}' | take id)

step 200 'GET /chat/llm-providers/{id}: read it again'
curl -s "$BASE_URL/chat/llm-providers/$PROVIDER_ID" -H "$AUTH" | show

step 201 'POST /chat/user-llm-configs: store your key for this provider'
curl -s "$BASE_URL/chat/user-llm-configs" -H "$AUTH" -H "$JSON" \
  -d '{"user_id": "'$USER_ID'", "provider_id": "'$PROVIDER_ID'", "api_key": "sk-example-0123456789"}' | show

step 200 'GET /chat/user-llm-configs/{user_id}/{provider_id}: the key comes back masked'
curl -s "$BASE_URL/chat/user-llm-configs/$USER_ID/$PROVIDER_ID" -H "$AUTH" | show

step 201 'Completions: add a provider, here a model that repeats your message'
ECHO_ID=$(curl -s "$BASE_URL/chat/llm-providers" -H "$AUTH" -H "$JSON" \
  -d '{"name": "Echo", "api_endpoint": "'$PROVIDER_URL'", "api_format": "openai"}' | take id)

step 201 'and a key for it, with a default model'
curl -s "$BASE_URL/chat/user-llm-configs" -H "$AUTH" -H "$JSON" \
  -d '{"user_id": "'$USER_ID'", "provider_id": "'$ECHO_ID'", "api_key": "any", "default_model": "echo"}' | show

step 200 'GET /chat/llm-providers/{id}/models'
curl -s "$BASE_URL/chat/llm-providers/$ECHO_ID/models" -H "$AUTH" | show

step 200 'POST /chat/llm-providers/{id}/check: whether address, key and model work'
curl -s -X POST "$BASE_URL/chat/llm-providers/$ECHO_ID/check" -H "$AUTH" | show

step 200 'POST /chat/completions: a streamed reply'
curl -sN "$BASE_URL/chat/completions" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "provider_id": "'$ECHO_ID'", "content": "And drink?", "stream": true}'

step 202 'Let it be written in the background: the response comes at once'
COMPLETION_ID=$(curl -s "$BASE_URL/chat/completions" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "provider_id": "'$ECHO_ID'", "content": "And sleep?", "background": true}' \
  | take id)

step 200 'GET /chat/completions/{id}/events: read its events, and miss nothing'
curl -sN "$BASE_URL/chat/completions/$COMPLETION_ID/events" -H "$AUTH" -H 'Last-Event-ID: 12'

step 202 'Start another one'
COMPLETION_ID=$(curl -s "$BASE_URL/chat/completions" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "provider_id": "'$ECHO_ID'", "content": "And swim?", "background": true}' \
  | take id)

step 200 'POST /chat/completions/{id}/cancel: the partial text is kept'
curl -s -X POST "$BASE_URL/chat/completions/$COMPLETION_ID/cancel" -H "$AUTH" | show

step 201 'Not streamed: the response arrives when the reply has ended'
curl -s "$BASE_URL/chat/completions" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "provider_id": "'$ECHO_ID'", "parameters": {"max_tokens": 5}}' | show

step 200 'POST /chat/completions/preview: what would be sent'
curl -s "$BASE_URL/chat/completions/preview" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "provider_id": "'$ECHO_ID'", "content": "Thanks!"}' | show

step 200 'GET /chat/conversations/{id}: where the active path ends'
LEAF_ID=$(curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$AUTH" | take active_leaf_id)

step 201 'POST /chat/messages with parent_id: rephrase the first question, in a new branch'
BRANCH_ID=$(curl -s "$BASE_URL/chat/messages" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "role": "user", "content": "Where is it quiet?", "parent_id": null}' | take id)

step 201 'POST /chat/completions: the reply in the new branch'
curl -s "$BASE_URL/chat/completions" -H "$AUTH" -H "$JSON" \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "provider_id": "'$ECHO_ID'"}' | show

step 200 'GET /chat/conversations/{id}/messages: the active path has two messages'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID/messages" -H "$AUTH" | show

step 200 'GET /chat/conversations/{id}/messages?branch=all: messages of all branches, each with its parent_id'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID/messages?branch=all" -H "$AUTH" | show

step 200 'GET /chat/conversations/{id}/messages?around=: a message with its neighbours, of any branch'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID/messages?branch=all&around=$BRANCH_ID&limit=3" -H "$AUTH" | show

step 200 'PATCH /chat/conversations/{id}: back to the first branch; also pin and rename'
curl -s -X PATCH "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$AUTH" -H "$JSON" \
  -d '{"active_leaf_id": "'$LEAF_ID'", "pinned": true, "title": "Lisbon in May"}' | show

step 204 'DELETE /chat/messages/{id}: delete the other branch'
curl -s -X DELETE "$BASE_URL/chat/messages/$BRANCH_ID" -H "$AUTH"

step 200 'GET /chat/conversations: those whose title contains a text, most recently used first'
curl -s "$BASE_URL/chat/conversations?pinned=true&q=lisbon" -H "$AUTH" | show

step 200 'GET /chat/search: a phrase and a prefix, excluding a word'
curl -sG "$BASE_URL/chat/search" -H "$AUTH" \
  --data-urlencode 'q="should i" ea* -hotel' | show

step 200 'GET /chat/search: in one conversation, best match first'
curl -sG "$BASE_URL/chat/search" -H "$AUTH" -d "conversation_id=$CONVERSATION_ID" -d sort=relevance -d limit=5 \
  --data-urlencode 'q=where' | show

step 200 'GET /chat/export: everything you own, one JSON object per line'
EXPORT=$(mktemp)
curl -s "$BASE_URL/chat/export" -H "$AUTH" > "$EXPORT"

step 204 'DELETE /chat/conversations/{id}: with everything in it'
curl -s -X DELETE "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$AUTH"

step 200 'POST /chat/import: restored, with its ids, times and branches'
curl -s -X POST "$BASE_URL/chat/import" -H "$AUTH" -H 'Content-Type: application/x-ndjson' -T "$EXPORT" | show

step 200 'POST /chat/import: the same file again changes nothing'
curl -s -X POST "$BASE_URL/chat/import" -H "$AUTH" -F "file=@$EXPORT" | show

step 200 'GET /chat/export/zip: with the contents of attachments'
curl -s "$BASE_URL/chat/export/zip" -H "$AUTH" > "$EXPORT"

step 200 'POST /chat/import: the zip, which has what is here already'
curl -s -X POST "$BASE_URL/chat/import" -H "$AUTH" -H 'Content-Type: application/zip' -T "$EXPORT" | show
rm "$EXPORT"

step 200 'GET /chat/usage: what you have stored, and how much you may'
curl -s "$BASE_URL/chat/usage" -H "$AUTH" | show

step 400 'An error: the title is no text, and there is no such field'
curl -s "$BASE_URL/chat/conversations" -H "$AUTH" -H "$JSON" -d '{"title": 7, "name": "Lisbon"}' | show

step 201 'Idempotency-Key: the first of two equal requests'
curl -s "$BASE_URL/chat/messages" -H "$AUTH" -H "$JSON" -H 'Idempotency-Key: thank-you-1' \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "role": "user", "content": "Thank you."}' | show

step 201 'Idempotency-Key: the second one gets the first response again, and no second message is created'
curl -si "$BASE_URL/chat/messages" -H "$AUTH" -H "$JSON" -H 'Idempotency-Key: thank-you-1' \
  -d '{"conversation_id": "'$CONVERSATION_ID'", "role": "user", "content": "Thank you."}'; echo

step 200 'Pagination: two messages, and a Link to the rest'
curl -si "$BASE_URL/chat/conversations/$CONVERSATION_ID/messages?limit=2" -H "$AUTH"; echo

step 200 'Pagination: the messages after position 2'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID/messages?limit=2&after=2" -H "$AUTH" | show

step 200 'ETag: the version of an object'
ETAG=$(curl -sI "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$AUTH" | sed -n 's/^ETag: \(.*".*"\).*/\1/p')

step 304 'ETag: not changed since then, so nothing is sent'
curl -si "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$AUTH" -H "If-None-Match: $ETAG"

step 200 'ETag: the version of a provider'
ETAG=$(curl -sI "$BASE_URL/chat/llm-providers/$PROVIDER_ID" -H "$AUTH" | sed -n 's/^ETag: \(.*".*"\).*/\1/p')

step 200 'PATCH /chat/llm-providers/{id} with If-Match: change it only if it is still this version'
curl -s -X PATCH "$BASE_URL/chat/llm-providers/$PROVIDER_ID" -H "$AUTH" -H "$JSON" -H "If-Match: $ETAG" \
  -d '{"name": "Example AI, Europe"}' | show

step 412 'If-Match: the same version once more, but it was changed since'
curl -s -X PATCH "$BASE_URL/chat/llm-providers/$PROVIDER_ID" -H "$AUTH" -H "$JSON" -H "If-Match: $ETAG" \
  -d '{"name": "Example AI, Asia"}' | show

step 200 'GET /chat/llm-providers: your own and the shared ones'
curl -s "$BASE_URL/chat/llm-providers" -H "$AUTH" | show

step 200 'GET /chat/llm-providers/catalog: the known vendors'
curl -s "$BASE_URL/chat/llm-providers/catalog" -H "$AUTH" | show

step 200 'PUT /chat/user-llm-configs/{user_id}/{provider_id}: replace your key'
curl -s -X PUT "$BASE_URL/chat/user-llm-configs/$USER_ID/$PROVIDER_ID" -H "$AUTH" -H "$JSON" \
  -d '{"api_key": "sk-newer-9876543210", "default_model": "gpt-5-mini"}' | show

step 200 'GET /chat/user-llm-configs: your keys, masked'
curl -s "$BASE_URL/chat/user-llm-configs" -H "$AUTH" | show

step 204 'DELETE /chat/user-llm-configs/{user_id}/{provider_id}: forget your key'
curl -s -X DELETE "$BASE_URL/chat/user-llm-configs/$USER_ID/$PROVIDER_ID" -H "$AUTH"

step 204 'DELETE /chat/llm-providers/{id}: with all keys for it'
curl -s -X DELETE "$BASE_URL/chat/llm-providers/$PROVIDER_ID" -H "$AUTH"

step 201 'Another user registers'
curl -s "$BASE_URL/auth/register" -H "$JSON" -d '{"email": "bob.'$EMAIL'", "password": "'"$PASSWORD"'"}' | show

step 200 'and logs in'
BOB="Authorization: Bearer $(curl -s "$BASE_URL/auth/login" -H "$JSON" \
  -d '{"email": "bob.'$EMAIL'", "password": "'"$PASSWORD"'"}' | take access_token)"

step 404 'Isolation: your conversation does not exist for them'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "$BOB" | show

step 204 'DELETE /auth/me: they erase their account and everything it owns'
curl -s -X DELETE "$BASE_URL/auth/me" -H "$BOB"

step 200 'GET /auth/me: who am I?'
curl -s "$BASE_URL/auth/me" -H "$AUTH" | show

step 201 'POST /auth/tokens: a personal access token for a script, returned once'
SCRIPT_TOKEN=$(curl -s "$BASE_URL/auth/tokens" -H "$AUTH" -H "$JSON" \
  -d '{"name": "nightly export", "expires_in_days": 30}' | take token)

step 200 'The script reads with it'
curl -s "$BASE_URL/chat/conversations/$CONVERSATION_ID" -H "Authorization: Bearer $SCRIPT_TOKEN" | show

step 200 'PATCH /auth/me: a new password ends all other logins and all personal access tokens'
curl -s -X PATCH "$BASE_URL/auth/me" -H "$AUTH" -H "$JSON" \
  -d '{"current_password": "'"$PASSWORD"'", "password": "a longer horse and a newer staple"}' | show

step 200 'POST /auth/refresh: exchange the refresh token for a new pair'
curl -s -X POST "$BASE_URL/auth/refresh" -H "Authorization: Bearer $REFRESH_TOKEN" | show

step 204 'POST /auth/logout: both tokens of this login stop working within a second'
curl -s -X POST "$BASE_URL/auth/logout" -H "$AUTH"; sleep 1

step 401 'GET /auth/me: logged out'
curl -s "$BASE_URL/auth/me" -H "$AUTH" | show

stop_if_failed
printf '\nAll responses were as expected.\n'
