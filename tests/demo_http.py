"""What the tests of the demo send to it by raw HTTP."""

import base64
import io

from PIL import Image

MCP = {"Accept": "application/json, text/event-stream"}


def png(size=(32, 24), color=(20, 110, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def data_url(contents):
    return f"data:image/png;base64,{base64.b64encode(contents).decode()}"


IMAGE = {"url": data_url(png())}


def run(client, function, data):
    return client.post(f"/gradio_api/run/{function}", json={"data": data})


def tool_call(client, function, arguments, **options):
    call = {"name": function, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    return client.post("/gradio_api/mcp/", json=body, headers=MCP | options.pop("headers", {}), **options)
