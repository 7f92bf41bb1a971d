"""A program as documents declare it, and as users write it."""

DECLARED = {
    "signature": {
        "instructions": "Label it.\n- animal: zebra\n- tool: saw",
        "inputs": [{"name": "text", "description": "what to label"}],
        "outputs": [{"name": "label", "type": "Literal['animal', 'tool']"}],
    }
}
PYTHON = {"python": {"entrypoint": "shop:build"}, "source": {"configMapRef": {"name": "shop"}}}
SHOP = """
import dspy

class Shop(dspy.Module):
    signature = dspy.Signature("text -> label")

    def __init__(self):
        super().__init__()
        self.step = dspy.Predict(self.signature)

    def forward(self, text: str) -> dspy.Prediction:
        return self.step(text=text)

def build():
    return Shop()
"""
