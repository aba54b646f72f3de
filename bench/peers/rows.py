"""The rows of the table: what they compute, and which ratios are asked of Polar."""
import dataclasses


@dataclasses.dataclass
class Decoder:
    """The sizes of a decoder and of its batch; the weights come from polarbench --data."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    base: float  # of the rotary frequencies
    eps: float
    rows: int
    length: int

    @property
    def head(self):
        return self.width // self.heads


STEP2 = Decoder(65, 128, 2, 4, 4, 1e4, 1e-6, rows=32, length=64)
STEP6 = Decoder(65, 384, 6, 6, 6, 1e4, 1e-6, rows=4, length=256)
LORA = Decoder(49152, 576, 30, 9, 3, 1e5, 1e-5, rows=4, length=256)
DECODERS = {"step2": STEP2, "step6": STEP6, "lora": LORA}

SGD_RATE = 0.1  # polarbench's
LORA_RANK, LORA_SCALE = 16, 2.0
ADAM_RATE = 1e-4
PROJECTIONS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


@dataclasses.dataclass
class Row:
    name: str
    title: str
    peers: dict  # library -> variants, of which the fastest is shown
    targets: dict  # library -> how many times faster Polar is to be
    bf16: dict | None = None  # the same of polar:bf16; None: not timed
    direct: bool = False  # package gemm without the backend as well
    xla: bool = False
    go: bool = True
    check: str = ""  # what is compared before timing: "", "losses", "gradient", "updates"
    wait: float = 600.0  # seconds that a first step may take


def product(shape, target):
    return Row("product:" + shape, "product " + shape, {"openblas": ["numpy"], "torch": ["eager"], "jax": ["jit"]}, {"openblas": target}, direct=True)


ROWS = [
    product("1024x1024x1024", 0.95),
    product("2048x576x1536", 0.95),
    product("2048x576x16", 1.0),
    product("2048x16x576", 1.0),
    product("16x2048x576", 1.0),
    Row("step2", "training step, 2 layers, d=128, T=64, B=32", {"torch": ["eager", "compile"], "jax": ["plain", "dpa"]},
        {"torch": 2.0, "jax": 1.5, "go": 5.0}, bf16={}, xla=True, check="losses"),
    Row("step6", "training step, 6 layers, d=384, T=256, B=4", {"torch": ["eager", "compile"], "jax": ["plain", "dpa"]},
        {"torch": 1.5, "jax": 1.5}, bf16={}, xla=True, check="losses"),
    Row("lora", "LoRA step, SmolLM2-135M's shape, rank 16, T=256, B=4", {"torch": ["eager", "compile", "peft"], "jax": ["plain", "dpa"]},
        {"torch": 1.5, "jax": 1.5}, bf16={"torch": 2.0, "jax": 2.0}, xla=True, check="gradient", wait=1200.0),
    Row("optimizer", "LoRA-Muon's step, its 210 pairs", {"torch": ["eager", "eager-gram", "compile", "compile-gram"], "jax": ["jit", "jit-gram"]},
        {"torch": 3.0, "jax": 3.0}, check="updates"),
]
MEMORY_TARGET, SHARE_TARGET = 0.7, 0.05
