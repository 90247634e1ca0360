"""What OpenAI's own client makes of a server and of batch files. Runs where the package openai is installed.

    OPENAI_API_KEY=… python benchmarks/servers/openai_client.py outcomes URL '{name: [model, text]}'
    python benchmarks/servers/openai_client.py batch URL REQUESTS.jsonl RESULTS.jsonl

outcomes: for each name the reply, or the client's name for what went wrong. batch: check every request against the
client's types, ask the server, check every result, and write the results as a batch service does. Both print JSON.
"""

import json
import os
import sys

import openai
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter


def outcome(client: openai.OpenAI, model: str, text: str) -> str:
    try:
        reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    except openai.OpenAIError as error:
        return type(error).__name__
    return reply.choices[0].message.content or ""


def run_batch(client: openai.OpenAI, requests_file: str, results_file: str) -> dict[str, int]:
    """Counts of what was valid."""
    body_type = TypeAdapter(CompletionCreateParamsNonStreaming)
    names = set()
    with open(requests_file, encoding="utf-8") as lines, open(results_file, "w", encoding="utf-8") as out:
        for line in lines:
            request = json.loads(line)
            assert set(request) == {"custom_id", "method", "url", "body"} and request["method"] == "POST", request
            assert request["url"] == "/v1/chat/completions"
            list(body_type.validate_python(request["body"])["messages"])  # messages are checked when they are read
            names.add(request["custom_id"])
            completion = client.chat.completions.create(**request["body"])
            body = completion.model_dump(mode="json")
            ChatCompletion.model_validate(body)
            response = {"status_code": 200, "request_id": f"request-{len(names)}", "body": body}
            result = {"id": f"batch-{len(names)}", "custom_id": request["custom_id"], "response": response}
            print(json.dumps({**result, "error": None}), file=out)
    return {"requests": len(names)}


job, url, *rest = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=0)
if job == "batch":
    found = run_batch(client, *rest)
else:
    found = {name: outcome(client, *asked) for name, asked in json.loads(rest[0]).items()}
print(json.dumps({"version": openai.__version__, **found}))
