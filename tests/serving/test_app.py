import base64
import gc
import json
import re
import resource
import socket
import threading
import time
import weakref

import httpx
import numpy as np
import pytest

from detflow.data.images.header import ImageFault
from detflow.inference.results import DEFAULT_SCORE_THRESHOLD
from detflow.pages.colours import format_css
from detflow.serving import bodies

JPEG = {"content-type": "image/jpeg"}
LONG_FORM = f"multipart/form-data; boundary={'b' * 300}"


def head(body, *more):
    """The request of an upload, for sockets that do what no HTTP client would."""
    lines = (
        "POST /predict HTTP/1.1",
        "Host: x",
        "Content-Type: image/png",
        f"Content-Length: {len(body)}",
        *more,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def rows(*files):
    return {"instances": [{"b64": base64.b64encode(file).decode()} for file in files]}


def test_a_client_of_tf_serving_needs_no_change(served, kit):
    status = served.client.get("/v1/models/cells").json()["model_version_status"]
    assert [(one["state"], one["status"]["error_code"]) for one in status] == [("AVAILABLE", "OK")]
    metadata = served.client.get("/v1/models/cells/metadata").json()
    assert metadata["model_spec"]["version"] == status[0]["version"]
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image_tensor"]["dtype"] == "DT_UINT8"
    assert [
        side["size"]
        for side in signatures["image_bytes"]["outputs"]["detection_boxes"]["tensor_shape"]["dim"]
    ][-1] == "4"
    request = rows(kit.encode((10, 200, 10)), kit.encode((10, 10, 200), (30, 30), "JPEG"))
    for path in ("/v1/models/cells", f"/v1/models/cells/versions/{status[0]['version']}"):
        first, second = served.client.post(f"{path}:predict", json=request).json()["predictions"]
        assert first == {
            "detection_boxes": [[0.25, 0.1, 0.75, 0.5], [0.0, 0.0, 1.0, 1.0]],
            "detection_scores": [0.9, 0.2],
            "detection_classes": [2.0, 2.0],
            "num_detections": 2.0,
        }
        assert second["detection_classes"] == [3.0, 3.0]
    columns = served.client.post(
        "/v1/models/cells:predict", json={"inputs": request["instances"]}
    ).json()["outputs"]
    assert columns["detection_classes"] == [[2.0, 2.0], [3.0, 3.0]]
    assert columns["num_detections"] == [2.0, 2.0]


def test_uploads_are_answered_as_predict_writes_them(served, kit):
    files = [
        ("f", ("a.png", kit.encode())),
        ("f", ("b.jpg", kit.encode((10, 10, 200), (60, 20), "JPEG", orientation=3))),
    ]
    answer = served.client.post("/predict?score_threshold=0.5", files=files).json()
    assert "upright" in answer["frame"]
    assert answer["model"]["name"] == "cells"
    first, second = answer["images"]
    assert (first["file"], first["width"], first["height"], first["exif_orientation"]) == (
        "a.png",
        40,
        20,
        1,
    )
    assert first["detections"] == [
        {
            "name": "red",
            "class_id": 1,
            "score": 0.9,
            "box": [0.25, 0.1, 0.75, 0.5],
            "box_px": [4.0, 5.0, 20.0, 15.0],
        }
    ]
    # Upright, its blue half is the right one, where the rule does not look.
    assert (second["exif_orientation"], second["detections"][0]["name"]) == (3, "red")
    whole = served.client.post("/predict?score_threshold=0", content=kit.encode(), headers=JPEG)
    whole = whole.json()
    assert [found["score"] for found in whole["images"][0]["detections"]] == [0.9, 0.2]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "reason"),
    [
        ("POST", "/v1/models/cells:predict", {"content": b"{"}, 400, "not JSON"),
        (
            "POST",
            "/v1/models/cells:predict",
            {"json": {"instances": [{"b64": "aGVsbG8="}]}},
            400,
            "instance 0: image undecodable",
        ),
        ("POST", "/v1/models/other:predict", {"json": {}}, 404, "Not Found"),
        (
            "POST",
            "/v1/models/cells/versions/7:predict",
            {"json": {}},
            404,
            "version 7 is not served",
        ),
        ("GET", "/v1/models/cells:predict", {}, 405, "Method Not Allowed"),
        ("GET", "/v1/models/../../etc/passwd", {}, 404, "Not Found"),
        ("GET", "/predict/", {}, 404, "Not Found"),
        (
            "POST",
            "/predict",
            {"content": b"x", "headers": {"content-type": "text/plain"}},
            415,
            "multipart",
        ),
        (
            "POST",
            "/predict",
            {"content": b"x", "headers": {**JPEG, "content-encoding": "gzip"}},
            415,
            "compressed",
        ),
        (
            "POST",
            "/predict?score_threshold=nan",
            {"content": b"x", "headers": JPEG},
            400,
            "score_threshold",
        ),
        (
            "POST",
            "/predict",
            {
                "content": b"x",
                "headers": {"content-type": f"multipart/form-data; boundary={'b' * 300}"},
            },
            400,
            "not valid multipart/form-data",
        ),
        (
            "POST",
            "/predict",
            {"content": b"x", "headers": {**JPEG, "x": "y" * 17_000}},
            431,
            "the headers have more than 16,384 bytes",
        ),
        (
            "POST",
            "/predict",
            {"files": {"f": ("p.jpg", b"hello")}},
            400,
            "p.jpg: image undecodable",
        ),
        (
            "POST",
            "/predict",
            {"content": b"x" * 200_001, "headers": JPEG},
            413,
            "more than 200,000 bytes",
        ),
        (
            "POST",
            "/predict",
            {"content": (b"x" * 1000 for _ in range(300)), "headers": JPEG},
            413,
            "more than 200,000 bytes",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(
    method, path, options, status, reason, served
):
    answer = served.client.request(method, path, **options)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert reason in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_pictures_with_too_many_pixels_are_refused(served, kit):
    answer = served.client.post("/predict", content=kit.encode(size=(400, 300)), headers=JPEG)
    assert (answer.status_code, answer.json()["error"][:22]) == (413, "image: image too large")


def test_a_slow_body_is_given_up_and_takes_no_place(served, kit):
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(head(b"x" * 1000) + b"abc")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
        while slow.recv(1000):
            pass
    assert kit.metric(served.client, 'detflow_requests_total{route="predict",status="408"}') == 1
    assert (
        kit.metric(served.client, "detflow_queue_images")
        == kit.metric(served.client, "detflow_held_bytes")
        == 0
    )


def test_metrics_say_what_was_served(served, kit):
    before = kit.metric(served.client, "detflow_batch_images_sum")
    served.client.post("/v1/models/cells:predict", json=rows(kit.encode(), kit.encode()))
    text = served.client.get("/metrics").text
    assert kit.metric(served.client, "detflow_batch_images_sum") == before + 2
    assert kit.metric(served.client, 'detflow_requests_total{route="tf_predict",status="200"}') >= 1
    assert kit.metric(served.client, 'detflow_request_seconds_count{route="tf_predict"}') >= 1
    assert kit.metric(served.client, "process_resident_memory_bytes") > 1e6
    assert re.search(
        r'detflow_model_info\{name="cells",sha256="[0-9a-f]{64}",version="\d+"\} 1', text
    )
    # What clients ask for is no label.
    assert "passwd" not in text


def test_a_failure_of_the_network_is_one_request_s_own(served_dir, kit, caplog):
    with kit.running(served_dir, max_delay_s=0.5) as server:
        (detector,) = server.detectors
        detector.fails_on_height = 33
        answer = server.client.post(
            "/v1/models/cells:predict", json=rows(kit.encode(), kit.encode(size=(40, 33)))
        )
        assert (answer.status_code, set(answer.json())) == (500, {"error"})
        assert "opinion" not in answer.text
        assert "RuntimeError" in caplog.text
        detector.gate.clear()
        answers = {}

        def ask(height):
            content = kit.encode(size=(40, height))
            answers[height] = server.client.post("/predict", content=content, headers=JPEG)

        threads = [threading.Thread(target=ask, args=(height,)) for height in (20, 21, 33, 34)]
        for thread in threads:
            thread.start()
        kit.wait_until(lambda: kit.metric(server.client, "detflow_queue_images") == 4)
        detector.gate.set()
        for thread in threads:
            thread.join()
        assert {height: answer.status_code for height, answer in answers.items()} == {
            20: 200,
            21: 200,
            33: 500,
            34: 200,
        }
        assert kit.metric(server.client, "detflow_queue_images") == 0


@pytest.fixture
def many_files():
    """Both ends of a thousand connections are files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2200:
        pytest.skip(f"this machine allows a process {hard} open files; two thousand are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_at_once_are_answered_or_told_to_come_again(served_dir, kit, many_files):
    with kit.running(served_dir, max_queue=16, max_instances=4, deadline_s=60) as server:
        (detector,) = server.detectors
        detector.gate.clear()
        body = kit.encode()
        connections = [
            socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(1000)
        ]
        for connection in connections:
            connection.sendall(head(body, "Connection: close") + body)
        kit.wait_until(
            lambda: (
                kit.metric(server.client, 'detflow_requests_total{route="predict",status="429"}')
                == 984
            )
        )
        assert kit.metric(server.client, "detflow_queue_images") == 16
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/healthz").status_code == 200
        assert (
            server.client.post("/predict", content=body, headers=JPEG).headers["retry-after"] == "1"
        )
        detector.gate.set()
        statuses = []
        for connection in connections:
            with connection, connection.makefile("rb") as answer:
                statuses.append(int(answer.readline().split()[1]))
                assert answer.read()
        assert (statuses.count(200), statuses.count(429)) == (16, 984)
        assert server.client.post("/predict", content=body, headers=JPEG).status_code == 200
        assert server.client.get("/readyz").status_code == 200
        assert (
            kit.metric(server.client, "detflow_queue_images")
            == kit.metric(server.client, "detflow_held_bytes")
            == 0
        )
        assert max(len(batch) for batch in detector.batches) <= 8


def test_bodies_and_pictures_find_room_or_are_refused(served_dir, kit):
    # A picture of 40 × 20 takes 800 × 3 bytes, and work on it 800 × 20; a body lies there thrice.
    bounds = {"max_held_bytes": 22_000, "max_body_bytes": 1_000, "max_pixels": 800}
    with kit.running(served_dir, **bounds) as server:
        (detector,) = server.detectors
        detector.gate.clear()
        statuses = []
        posts = [
            threading.Thread(
                target=lambda: statuses.append(
                    server.client.post("/predict", content=kit.encode(), headers=JPEG)
                )
            )
            for _ in range(2)
        ]
        for post in posts:
            post.start()
        kit.wait_until(lambda: statuses)
        assert (statuses[0].status_code, statuses[0].json()["error"]) == (
            429,
            "the memory for requests is full: 22,000 bytes",
        )
        detector.gate.set()
        for post in posts:
            post.join()
        assert statuses[1].status_code == 200
        files = [("image", (str(i), kit.encode(), "image/jpeg")) for i in range(2)]
        answer = server.client.post("/predict", files=files)
        assert (answer.status_code, "22,000 are allowed" in answer.json()["error"]) == (413, True)
        body = b'{"instances": [' + b"[]," * 300 + b"[]]}"
        answer = server.client.post("/v1/models/cells:predict", content=body)
        assert (answer.status_code, "22,000 are allowed" in answer.json()["error"]) == (413, True)
        assert kit.metric(server.client, "detflow_held_bytes") == 0


def test_no_pixel_is_decoded_before_the_whole_request_has_found_room(served_dir, kit, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        bodies, "decode_picture", lambda *args, **kwargs: decoded.append(args) or 1 / 0
    )
    bounds = {"max_held_bytes": 62_000, "max_body_bytes": 2_000, "max_pixels": 2_400}
    with kit.running(served_dir, **bounds) as server:
        files = [("image", (str(i), kit.encode(size=(60, 40)), "image/jpeg")) for i in range(3)]
        answer = server.client.post("/predict", files=files)
        assert (answer.status_code, decoded) == (413, [])
        assert kit.metric(server.client, "detflow_held_bytes") == 0


def test_what_a_decoder_held_is_gone_once_its_picture_is_refused(served_dir, kit, monkeypatch):
    """A circle of frames and errors kept 67 MB of each such picture until the collector came."""
    held = []

    def fail(*arguments, **options):
        pixels = np.zeros(1_000)
        held.append(weakref.ref(pixels))
        raise ImageFault("image_undecodable", "damaged")

    monkeypatch.setattr(bodies, "decode_picture", fail)
    with kit.running(served_dir) as server:
        gc.disable()
        try:
            assert server.client.post("/predict", content=kit.encode()).status_code == 415
            answer = server.client.post("/predict", content=kit.encode(), headers=JPEG)
            assert answer.status_code == 400
            kit.wait_until(lambda: held[0]() is None)
        finally:
            gc.enable()


def test_large_pictures_go_through_the_network_alone(served_dir, kit):
    with kit.running(served_dir, max_delay_s=0.5) as server:
        (detector,) = server.detectors
        sizes = [(40, 20), (1600, 1200), (1600, 1200), (40, 20)]
        files = [
            ("image", (str(i), kit.encode(size=size), "image/png")) for i, size in enumerate(sizes)
        ]
        assert server.client.post("/predict", files=files).status_code == 200
        # The third would be too much beside the first two.
        assert [len(batch) for batch in detector.batches] == [2, 2]


def test_the_threshold_is_predict_s_unless_the_form_or_the_address_has_one(served, kit):
    files = {"f": ("a.png", kit.encode())}
    scores = lambda answer: [  # noqa: E731
        found["score"] for found in answer.json()["images"][0]["detections"]
    ]
    whole = served.client.post("/predict", files=files)
    assert whole.json()["score_threshold"] == DEFAULT_SCORE_THRESHOLD
    assert scores(whole) == [0.9]
    lower = served.client.post("/predict", files=files, data={"score_threshold": "0.1"})
    assert scores(lower) == [0.9, 0.2]
    for path, fields, reason in (
        ("/predict", {"threshold": "0.1"}, "there is no field 'threshold'"),
        ("/predict?treshold=1", {}, "there is no field 'treshold'"),
        ("/predict?score_threshold=0", {"score_threshold": "0"}, "expected one"),
        ("/predict", {"score_threshold": "2"}, "from 0 to 1"),
    ):
        answer = served.client.post(path, files=files, data=fields)
        assert answer.status_code == 400
        assert reason in answer.json()["error"]


def test_clients_that_leave_give_their_places_back(served_dir, kit):
    with kit.running(served_dir) as server:
        (detector,) = server.detectors
        detector.gate.clear()
        body = kit.encode()
        leaving = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(6)]
        leaving[0].sendall(head(body) + body)
        kit.wait_until(lambda: detector.batches)
        for connection in leaving[1:5]:
            connection.sendall(head(body) + body)
        leaving[5].sendall(head(body) + body[:20])
        kit.wait_until(lambda: kit.metric(server.client, "detflow_queue_images") == 5)
        for connection in leaving:
            connection.close()
        kit.wait_until(lambda: kit.metric(server.client, "detflow_queue_images") == 0)
        # The network is at work on the first one, in memory that counts until that is over.
        held = kit.metric(server.client, "detflow_held_bytes")
        assert 3 * len(body) < held < 2 * (3 * len(body) + 40 * 20 * 23)
        detector.gate.set()
        assert server.client.post("/predict", content=body, headers=JPEG).status_code == 200
        kit.wait_until(lambda: kit.metric(server.client, "detflow_held_bytes") == 0)
        # The one that was in the network was finished for nobody; those behind it were not begun.
        assert [len(batch) for batch in detector.batches] == [1, 1]
        assert (
            kit.metric(server.client, 'detflow_requests_total{route="predict",status="499"}') == 6
        )


def test_the_deadline_ends_a_request(served_dir, kit):
    with kit.running(served_dir, deadline_s=0.2) as server:
        server.detectors[0].gate.clear()
        answer = server.client.post("/predict", content=kit.encode(), headers=JPEG)
        assert (answer.status_code, answer.json()["error"]) == (504, "no result within 0.2 s")
        assert kit.metric(server.client, "detflow_queue_images") == 0


def test_nobody_else_s_page_or_name_reaches_a_local_server(served_dir, kit):
    with kit.running(served_dir, hosts={"localhost", "127.0.0.1", "::1"}) as server:
        for host, status in (
            ("127.0.0.1:8501", 200),
            ("LOCALHOST", 200),
            ("[::1]:80", 200),
            ("[::1]", 200),
            ("evil.example", 421),
            ("localhost.evil.example:80", 421),
            ("", 421),
        ):
            assert server.client.get("/page.json", headers={"host": host}).status_code == status, (
                host
            )
            assert server.client.get("/healthz", headers={"host": host}).status_code == 200
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            assert (
                server.client.get("/page.json", headers={"sec-fetch-site": site}).status_code
                == status
            )
        answer = server.client.options(
            "/predict",
            headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
        )
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_style_sheet_has_the_colours_that_it_names(served):
    style = served.client.get("/page.css").text
    assert style.startswith(format_css())
    assert "var(--ink)" in style


def test_a_token_opens_all_but_probes_and_page(served_dir, kit):
    with (
        kit.running(served_dir, token=kit.token) as server,
        httpx.Client(base_url=server.client.base_url, trust_env=False) as stranger,
    ):
        for path in ("/healthz", "/readyz", "/", "/page.js", "/page.css"):
            assert stranger.get(path).status_code == 200
        for path in (
            "/metrics",
            "/page.json",
            "/v1/models/cells",
            "/v1/models/cells/metadata",
            "/nothing",
        ):
            for header in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": kit.token},
                {"authorization": b"Bearer \xff"},
            ):
                answer = stranger.get(path, headers=header)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert stranger.post("/predict", content=kit.encode(), headers=JPEG).status_code == 401
        assert server.client.post("/predict", content=kit.encode(), headers=JPEG).status_code == 200
        assert server.client.get("/metrics").status_code == 200


def test_the_page_may_run_its_own_script_and_nothing_else(served):
    page = served.client.get("/")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script(?! src=)|<style| style=| on[a-z]+=", page.text)
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<h1>cells</h1>" in page.text
    for path in re.findall(r'(?:src|href)="(page[^"]+)"', page.text):
        assert served.client.get(f"/{path}").status_code == 200
    colours = [one["colour"] for one in served.client.get("/page.json").json()["classes"]]
    assert len(set(colours)) == 3


def test_loading_takes_nothing_from_liveness(tmp_path, kit, served_dir, monkeypatch):
    release = threading.Event()
    from detflow.serving.models import ArtifactSource

    verify = ArtifactSource.verify
    monkeypatch.setattr(ArtifactSource, "verify", lambda self: (release.wait(300), verify(self))[1])
    with kit.running(served_dir, wait=False) as server:
        assert server.client.get("/healthz").status_code == 200
        for path in ("/readyz", "/v1/models/cells", "/page.json"):
            answer = server.client.get(path)
            assert (answer.status_code, answer.json()["error"]) == (
                503,
                "the model is being loaded",
            )
        release.set()
        kit.wait_until(lambda: server.client.get("/readyz").status_code == 200)


def test_company_on_its_way_is_waited_for(served_dir, kit):
    """Two clients whose bodies end one after another go through the network together."""
    with kit.running(served_dir, max_delay_s=300.0) as server:
        body = kit.encode()
        connections = [
            socket.create_connection(("127.0.0.1", server.port), timeout=300) for _ in range(2)
        ]
        connections[1].sendall(head(body, "Connection: close") + body[:-1])
        time.sleep(0.1)
        connections[0].sendall(head(body, "Connection: close") + body)
        kit.wait_until(lambda: kit.metric(server.client, "detflow_queue_images") == 1)
        time.sleep(0.1)
        assert server.detectors[0].batches == []
        connections[1].sendall(body[-1:])
        for connection in connections:
            with connection, connection.makefile("rb") as answer:
                assert json.loads(answer.read().partition(b"\r\n\r\n")[2])["images"][0][
                    "detections"
                ]
        assert [len(batch) for batch in server.detectors[0].batches] == [2]
