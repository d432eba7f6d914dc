"""The lint: it finds what the interpreter wrongly accepts, it leaves good kernels alone, and ours are good."""

from pathlib import Path

import pytest

from handsight.kernels.lint import lint, lint_files

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
GOOD = '''
class Heads(NamedTuple):
    """A tensor and its stride."""

    ptr: Any
    token: Any

class Visits(NamedTuple):
    """(R,) int32."""

    ptr: Any

@triton.jit
def load_tile(x: Heads, limit, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    rows = tl.arange(0, ROWS)[:, None]
    return tl.load(x.ptr + rows * x.token + tl.arange(0, WIDTH)[None, :], mask=rows < limit, other=0.0)

@triton.jit
def kernel(
    q: Heads,  # (N, D)
    k: Heads,
    visits: Visits,
    lse_ptr,  # (N,) float32
    out_ptr,
    N,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    tl.static_assert(BLOCK >= 16 and WIDTH >= 16)
    first = tl.load(visits.ptr + 2) * BLOCK
    lse = tl.load(lse_ptr + tl.arange(0, BLOCK)) * 2.0
    rows = load_tile(q, N - first, BLOCK, WIDTH)
    keys = load_tile(k, N, BLOCK, WIDTH)
    scores = tl.dot(rows, tl.trans(keys)) * 0.5
    total = tl.sum(rows.to(tl.float32) * 2.0, 1)
    out = tl.dot(scores.to(keys.dtype), keys)
    tl.store(out_ptr + tl.arange(0, BLOCK), (total + lse).to(out_ptr.dtype.element_ty), mask=tl.arange(0, BLOCK) < N)
'''


def findings(text: str) -> list[tuple[str, str]]:
    return [(found.rule, found.message) for found in lint({"kernel.py": text})]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_kernel_has_no_findings() -> None:
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "rule", "message"),
    [
        (" and WIDTH >= 16", "", "dot", "static_assert(WIDTH >= 16) in kernel"),
        ("WIDTH >= 16", "WIDTH >= 8", "dot", "static_assert(WIDTH >= 16) in kernel"),
        ("BLOCK >= 16 and", "BLOCK >= 16 or", "dot", "static_assert(BLOCK >= 16) in kernel"),
        ("rows < limit, other=0.0", "rows < limit", "load", "expected other="),
        ("mask=rows < limit, other=0.0", "rows < limit", "load", "expected other="),
        ("rows.to(tl.float32) * 2.0", "rows * 2.0", "bf16", "got rows * 2.0"),
        ("tl.dot(rows, tl.trans(keys)) * 0.5", "tl.dot(rows, tl.trans(keys)) * 0.5 + tl.max(keys, 1)", "bf16", "got tl.max(keys, 1)"),
        ("tl.sum(rows.to(tl.float32) * 2.0, 1)", "-rows", "bf16", "got -rows"),
        ("    lse_ptr,  # (N,) float32", "    lse_ptr,", "bf16", "tl.load(lse_ptr + tl.arange(0, BLOCK)) * 2.0"),
        ('"""(R,) int32."""', '"""(R,)."""', "bf16", "tl.load(visits.ptr + 2) * BLOCK"),
        ("scores.to(keys.dtype), keys)", "scores.to(keys.dtype) * 2.0, keys)", "bf16", "scores.to(keys.dtype) * 2.0"),
    ],
)
def test_what_the_interpreter_wrongly_accepts_is_found(old: str, new: str, rule: str, message: str) -> None:
    found = findings(changed(old, new))
    assert any(message in text for _, text in found), found
    assert {kind for kind, _ in found} == {rule}


def test_a_small_literal_tile_is_found_where_it_is_multiplied() -> None:
    kernel = "@triton.jit\ndef kernel(x_ptr):\n    tile = tl.zeros([8, 16], tl.float32)\n    tl.dot(tile, tile)\n"
    assert [message for _, message in findings(kernel)] == ["expected tiles of at least 16 a side where tl.dot is used, got 8"]
    assert findings(kernel.replace("    tl.dot(tile, tile)\n", "")) == []


def test_values_are_followed_around_a_loop_and_through_a_helper() -> None:
    helper = "@triton.jit\ndef twice(x):\n    return x * 2\n\n"
    kernel = (
        "@triton.jit\ndef kernel(x_ptr, n):\n    held = 0.0\n    for _ in range(n):\n        y = held + 1\n        held = tl.load(x_ptr)\n"
    )
    assert findings(kernel) == [("bf16", "expected .to(tl.float32) before arithmetic on what may be bfloat16, got held + 1")]
    called = helper + "@triton.jit\ndef kernel(x_ptr):\n    tl.store(x_ptr, twice(tl.load(x_ptr)))\n"
    assert findings(called) == [("bf16", "expected .to(tl.float32) before arithmetic on what may be bfloat16, got x * 2")]
    assert findings(called.replace("tl.load(x_ptr))", "tl.load(x_ptr).to(tl.float32))")) == []


def test_functions_that_are_not_jitted_are_not_read() -> None:
    assert findings("def host(x):\n    return tl.load(x, mask=x > 0)\n") == []


def test_two_kernels_of_one_name_cannot_be_followed() -> None:
    with pytest.raises(ValueError, match="different names"):
        lint({"one.py": GOOD, "other.py": GOOD})


def test_our_kernels_pass() -> None:
    files = [path for path in sorted(KERNELS.glob("*.py")) if "@triton.jit" in path.read_text()]
    assert {"triton_forward.py", "dense_baseline.py"} <= {path.name for path in files}
    assert [str(finding) for finding in lint_files(files)] == []
