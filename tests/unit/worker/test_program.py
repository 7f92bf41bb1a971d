"""Programs from documents: declared ones, users' Python, and what people read when it fails."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import dspy
import pytest

from dspy_worker.contract import app
from dspy_worker.edge import adapter
from dspy_worker.edge import call as calls
from dspy_worker.edge.call import Call
from dspy_worker.errors import LMAnswerUnusable, LoadError, ProgramRaised
from dspy_worker.serve import program, schema, usercode
from dspy_worker.testing import FakeLM, chat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspy_worker.serve.program import Program

MODELS = [{"name": "main", "model": "m", "endpoint": "http://lm.example.com/v1"}]
PLACES = {
    "inputs": [{"name": "text"}, {"name": "limits", "type": "list[int]"}],
    "outputs": [
        {"name": "label", "type": "Literal['bug', 'other']"},
        {"name": "where", "type": "list[Place]", "description": "all places"},
    ],
    "types": [
        {"name": "Point", "fields": [{"name": "x", "type": "float"}]},
        {
            "name": "Place",
            "description": "A place.",
            "fields": [{"name": "city"}, {"name": "at", "type": "Point"}],
        },
    ],
}


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    """Users' modules are called the same in each test and must not be found again."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("users_"):
            del sys.modules[name]


def document(spec: dict[str, Any], **serving: object) -> app.AppDocument:
    return app.load(
        {
            "apiVersion": app.API_VERSION,
            "kind": app.KIND,
            "metadata": {"name": "tickets"},
            "spec": {"program": spec, "models": MODELS, "serving": serving},
        }
    )


def load(
    spec: dict[str, Any], *answers: object, source: Path | None = None, **serving: object
) -> tuple[Program, FakeLM]:
    fake = FakeLM(answers or ["?"])
    loaded = program.load(
        document(spec, **serving),
        lm=fake.lm(),
        adapter=adapter.make("Chat"),
        source_dir=source,
    )
    return loaded, fake


def python(
    tmp_path: Path, code: str, *answers: object, **serving: object
) -> tuple[Program, FakeLM]:
    (tmp_path / "users_app.py").write_text(code)
    return load({"python": {"entrypoint": "users_app:build"}}, *answers, source=tmp_path, **serving)


async def test_a_declared_program_answers_with_typed_values() -> None:
    answer = chat(label="bug", where='[{"city": "Rome", "at": {"x": 1}, "extra": "chatty"}]')
    loaded, _ = load({"signature": PLACES}, answer)

    found = await loaded.run({"text": "x", "limits": [1]})

    checked = loaded.schema.outputs.model_validate(found).model_dump(mode="json")
    assert checked == {"label": "bug", "where": [{"city": "Rome", "at": {"x": 1.0}}]}


async def test_a_checked_request_can_be_asked_as_it_is() -> None:
    spec = {
        "inputs": [{"name": "place", "type": "Place"}],
        "outputs": [{"name": "label"}],
        "types": PLACES["types"],
    }
    loaded, fake = load({"signature": spec}, chat(label="a"))
    body = b'{"inputs": {"place": {"city": "Rome", "at": {"x": 1}}}}'

    await loaded.run(schema.values(schema.parse(loaded.schema.predict, body)))

    assert '{"city": "Rome", "at": {"x": 1.0}}' in str(fake.requests[0].messages[-1])


async def test_demos_and_instructions_are_in_the_prompt() -> None:
    spec = {
        "signature": {
            "instructions": "Sort a ticket.",
            "inputs": [{"name": "text", "description": "the ticket"}],
            "outputs": [{"name": "label"}],
        },
        "module": {"type": "ChainOfThought"},
        "demos": [{"text": "it crashes", "reasoning": "broken", "label": "bug"}],
    }
    loaded, fake = load(spec, chat(reasoning="r", label="other"))

    found = await loaded.run({"text": "hello"})

    asked = str(fake.requests[0])
    assert found["label"] == "other"
    assert all(part in asked for part in ("Sort a ticket.", "the ticket", "it crashes", "broken"))


@pytest.mark.parametrize(
    ("include", "fields"), [(False, ["label"]), (True, ["reasoning", "label"])]
)
def test_reasoning_is_shown_only_when_asked_for(*, include: bool, fields: list[str]) -> None:
    spec = {
        "signature": {"inputs": [{"name": "text"}], "outputs": [{"name": "label"}]},
        "module": {"type": "ChainOfThought"},
    }
    loaded, _ = load(spec, includeReasoning=include)

    assert list(loaded.schema.outputs.model_fields) == fields


@pytest.mark.parametrize("name", ["copy", "schema", "json", "model_config_name", "validate"])
async def test_a_field_may_be_called_like_something_of_pydantic(name: str) -> None:
    loaded, _ = load(
        {"signature": {"inputs": [{"name": name}], "outputs": [{"name": "label"}]}}, chat(label="x")
    )
    inputs = schema.parse(loaded.schema.predict, b'{"inputs": {"%b": "a"}}' % name.encode())

    assert schema.values(inputs) == {name: "a"}
    assert (await loaded.run({name: "a"}))["label"] == "x"


def test_a_demo_that_does_not_fit_is_named() -> None:
    spec = {"signature": PLACES, "demos": [{"text": "a", "label": "none"}]}

    with pytest.raises(LoadError, match=r"^spec.program.demos\[0\].label does not fit its field"):
        load(spec)


async def test_a_tool_whose_decorator_hides_that_it_is_asynchronous_is_awaited(
    tmp_path: Path,
) -> None:
    (tmp_path / "users_tools.py").write_text(
        "def decorated(function):\n"
        "    def stock(item: str):\n"
        "        return function(item)\n"
        "    return stock\n"
        "@decorated\n"
        "async def stock(item):\n"
        "    return f'7 {item}s are left'\n"
    )
    spec = {
        "signature": {"inputs": [{"name": "question"}], "outputs": [{"name": "answer"}]},
        "module": {"type": "ReAct", "tools": ["users_tools:stock"], "maxIterations": 1},
    }
    step = chat(next_thought="look", next_tool_name="stock", next_tool_args='{"item": "pen"}')
    loaded, fake = load(spec, step, chat(reasoning="r", answer="7"), source=tmp_path)

    await loaded.run({"question": "How many pens?"})

    assert "7 pens are left" in str(fake.requests[-1])


async def test_react_calls_a_users_plain_tool_in_a_thread(tmp_path: Path) -> None:
    (tmp_path / "users_tools.py").write_text(
        "import threading\n"
        "SEEN = []\n"
        "def stock(item: str) -> int:\n"
        "    '''How many are left.'''\n"
        "    SEEN.append((item, threading.current_thread().name))\n"
        "    return 7\n"
    )
    spec = {
        "signature": {
            "inputs": [{"name": "question"}],
            "outputs": [{"name": "count", "type": "int"}],
        },
        "module": {"type": "ReAct", "tools": ["users_tools:stock"], "maxIterations": 3},
    }
    step = chat(next_thought="look", next_tool_name="stock", next_tool_args='{"item": "pen"}')
    done = chat(next_thought="done", next_tool_name="finish", next_tool_args="{}")
    loaded, fake = load(spec, step, done, chat(reasoning="r", count=7), source=tmp_path)

    found = await loaded.run({"question": "How many pens?"})

    (item, thread), *_ = sys.modules["users_tools"].SEEN
    assert (found["count"], item) == (7, "pen")
    assert thread.startswith("program")
    assert "How many are left." in str(fake.requests[0])


async def test_a_users_program_says_its_fields_by_its_signature(tmp_path: Path) -> None:
    loaded, _ = python(
        tmp_path,
        "import dspy\n"
        "class Two(dspy.Module):\n"
        "    signature = dspy.Signature('text: str, k: int -> label: str')\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = dspy.Predict('text -> draft')\n"
        "        self.b = dspy.Predict('draft -> label')\n"
        "    async def aforward(self, text, k):\n"
        "        draft = (await self.a.acall(text=text)).draft\n"
        "        return await self.b.acall(draft=draft)\n"
        "def build():\n"
        "    return Two()\n",
        chat(draft="d"),
        chat(label="bug"),
    )

    assert list(loaded.schema.inputs.model_fields) == ["text", "k"]
    assert (await loaded.run({"text": "x", "k": 1}))["label"] == "bug"


def test_a_single_predictor_says_the_fields(tmp_path: Path) -> None:
    loaded, _ = python(
        tmp_path,
        "import dspy\ndef build():\n    return dspy.ChainOfThought('question -> answer: float')\n",
    )

    assert list(loaded.schema.inputs.model_fields) == ["question"]
    assert list(loaded.schema.outputs.model_fields) == ["answer"]


SYNC = (
    "import dspy\n"
    "class Sync(dspy.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.ask = dspy.Predict('text -> label')\n"
    "    def forward(self, text: str, again: int = 1):\n"
    "        return self.ask(text=text)\n"
    "def build():\n"
    "    return Sync()\n"
)


def test_a_forward_with_named_parameters_says_the_inputs(tmp_path: Path) -> None:
    loaded, _ = python(tmp_path, SYNC)
    inputs = loaded.schema.inputs.model_fields

    assert {n: (f.annotation, f.is_required()) for n, f in inputs.items()} == {
        "text": (str, True),
        "again": (int, False),
    }


async def test_a_program_without_aforward_runs_in_threads_with_our_lm(tmp_path: Path) -> None:
    names: set[str] = set()
    gate = threading.Barrier(12, timeout=5)

    def answer(_: object) -> str:
        names.add(threading.current_thread().name)
        gate.wait()
        return chat(label="x")

    loaded, _ = python(tmp_path, SYNC, answer, threads=12)

    found = await asyncio.gather(*(loaded.run({"text": str(i), "again": 1}) for i in range(12)))

    assert [f["label"] for f in found] == ["x"] * 12
    assert len(names) == 12, "more than the 8 threads of dspy.asyncify at the same time"


async def test_calls_of_dspys_parallel_belong_to_their_request(tmp_path: Path) -> None:
    """Its threads do not inherit context variables, so deadline and usage would be lost."""
    found: list[Call] = []

    def answer(_: object) -> str:
        found.append(calls.current())
        return chat(label="x")

    asked = "[(self.ask, dspy.Example(text=text).with_inputs('text'))] * 2"
    side_by_side = f"dspy.Parallel(num_threads=2, disable_progress_bar=True)({asked})[0]"
    loaded, _ = python(tmp_path, SYNC.replace("self.ask(text=text)", side_by_side), answer)
    mine = Call(deadline=time.monotonic() + 9)
    token = calls.CURRENT.set(mine)

    await loaded.run({"text": "x", "again": 1})
    calls.CURRENT.reset(token)

    assert found == [mine, mine]


@pytest.mark.parametrize("base", ["Predict", "ChainOfThought"])
async def test_a_forward_that_overrides_one_of_dspys_is_asked(tmp_path: Path, base: str) -> None:
    """Its `aforward` is inherited and knows nothing of the override."""
    loaded, _ = python(
        tmp_path,
        "import dspy\n"
        f"class Loud(dspy.{base}):\n"
        "    def forward(self, **inputs):\n"
        "        return dspy.Prediction(label=super().forward(**inputs).label.upper())\n"
        "def build():\n"
        "    return Loud('text -> label')\n",
        chat(reasoning="r", label="bug"),
    )

    assert await loaded.run({"text": "x"}) == {"label": "BUG"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(
            "import nothing_like_this\n",
            r"importing 'users_app' failed in users_app.py line 1: ModuleNotFoundError: "
            r"No module named 'nothing_like_this'",
            id="an import that is not there",
        ),
        pytest.param(
            "def build(:\n",
            r"importing 'users_app' failed in users_app.py line 1: SyntaxError: ",
            id="no Python",
        ),
        pytest.param(
            "raise SystemExit(3)\n",
            r"importing 'users_app' failed in users_app.py line 1: SystemExit: 3",
            id="a script that exits",
        ),
        pytest.param(
            "def create():\n    pass\n",
            r"module 'users_app' has no function 'build'; it has create",
            id="another function",
        ),
        pytest.param(
            "def build():\n    x = {}\n    return x['key']\n",
            r"calling users_app:build\(\) failed in users_app.py line 3: KeyError: 'key'",
            id="an entrypoint that raises",
        ),
        pytest.param(
            "def build():\n    pass\n",
            r"users_app:build\(\) must return a dspy.Module, but it returned nothing",
            id="a forgotten return",
        ),
        pytest.param(
            "import dspy\nclass P(dspy.Module):\n    pass\ndef build():\n    return P\n",
            r"must return a dspy.Module, but it returned the class P",
            id="a class",
        ),
        pytest.param("async def build():\n    pass\n", r"users_app:build is async", id="async"),
        pytest.param(
            "import dspy\n"
            "class Two(dspy.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.a, self.b = dspy.Predict('a -> b'), dspy.Predict('b -> c')\n"
            "    def forward(self, a):\n"
            "        return self.b(b=self.a(a=a).b)\n"
            "def build():\n"
            "    return Two()\n",
            r"Two has 2 predictors, so its fields cannot be told; give its class an attribute",
            id="unknown fields",
        ),
        pytest.param(
            "from __future__ import annotations\n" + SYNC.replace("text: str", "text: Unknown"),
            r"the fields of Sync cannot be described as JSON: name 'Unknown' is not defined",
            id="a type that is not there",
        ),
        pytest.param(
            "class Odd:\n"
            "    def __get_pydantic_core_schema__(source, handler):\n"
            "        from pydantic_core import core_schema\n"
            "        return core_schema.no_info_plain_validator_function(lambda value: value)\n"
            + SYNC.replace("text: str", "text: Odd"),
            r"the fields of Sync cannot be described as JSON: Cannot generate a JsonSchema",
            id="a type without a schema",
        ),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(LoadError, match=message) as caught:
        python(tmp_path, code)

    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there_is_named_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=rf"no module 'users_gone'; looked in {tmp_path}"):
        load({"python": {"entrypoint": "users_gone:build"}}, source=tmp_path)


def test_importing_users_code_keeps_to_the_folder(tmp_path: Path) -> None:
    usercode.add_to_path(tmp_path)
    usercode.add_to_path(tmp_path)

    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize("returned", ["'text'", "None", "42"])
async def test_a_program_that_returns_something_else_is_named(
    tmp_path: Path, returned: str
) -> None:
    loaded, _ = python(
        tmp_path,
        SYNC.replace("return self.ask(text=text)", f"return {returned}"),
    )

    with pytest.raises(ProgramRaised, match=r"must return a dspy.Prediction, but it returned"):
        await loaded.run({"text": "x", "again": 1})


async def test_a_dictionary_is_an_answer_too(tmp_path: Path) -> None:
    loaded, _ = python(tmp_path, SYNC.replace("return self.ask(text=text)", "return {'label': 1}"))

    assert await loaded.run({"text": "x", "again": 1}) == {"label": 1}


def test_unusable_is_a_kind_of_lm_error() -> None:
    assert LMAnswerUnusable.status == 502


async def test_traces_of_requests_do_not_pile_up() -> None:
    """DSPy keeps up to 10,000 prompts of other people in a global list by default."""
    loaded, _ = load(
        {"signature": {"inputs": [{"name": "q"}], "outputs": [{"name": "a"}]}}, chat(a="x")
    )
    before = len(dspy.settings.trace or [])

    await loaded.run({"q": "secret"})

    assert len(dspy.settings.trace or []) == before
