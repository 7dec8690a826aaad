"""Writes expected/ for every case but Qwen v1: logits of Hugging Face transformers on the CPU."""

import numpy as np
import torch
import transformers

import gguf_files
from cases import GGUF, HF
from common import CHECKPOINTS, N_IDS, golden_prompts, write_expected

OWN_DTYPE = {"BF16": torch.bfloat16, "F16": torch.float16}


def runner(model):
    """These models give the same logits in one pass as token by token, so one pass is enough."""
    @torch.inference_mode()
    def run(tokens, _n_prompt):
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()
    return run


def load(folder, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager")
    return runner(model.eval())


def load_gguf(case, config):
    """The dequantized weights of the file in the model class of its family."""
    _, tensors = gguf_files.read(CHECKPOINTS / f"{case}.gguf")
    kind = transformers.AutoConfig.for_model(**config)
    kind._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(kind, dtype=torch.float32)
    state = {k: torch.tensor(v) for k, v in tensors.items() if k != gguf_files.ROPE_DIVISORS}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
    model.tie_weights()
    return runner(model.eval())


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for case, (config, dtype, _, lengths) in HF.items():
        if config["model_type"] == "qwen":
            continue
        own = load(CHECKPOINTS / case, OWN_DTYPE[dtype]) if dtype in OWN_DTYPE else None
        run = load(CHECKPOINTS / case, torch.float32)
        write_expected(case, config["vocab_size"], golden_prompts(case, N_IDS, lengths, run, own))
    for case, (config, _, _, lengths) in GGUF.items():
        run = load_gguf(case, dict(config))
        write_expected(case, config["vocab_size"], golden_prompts(case, N_IDS, lengths, run))


if __name__ == "__main__":
    main()
