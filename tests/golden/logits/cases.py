"""THE table of cases: one tiny checkpoint per row, in the layout its family is published in.

HF[case]   = (config.json, storage dtype, shards, prompt lengths)
GGUF[case] = (config as Hugging Face writes it, storage type per tensor, files, prompt lengths)
"""

from common import EOS, N_BASE

SHORT_MEDIUM = [1, 19, 90]


def qwen2(hidden, heads, kv_heads, ffn, layers, vocab, tied, dtype, **more):
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": N_BASE,
        "eos_token_id": EOS,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": ffn,
        "max_position_embeddings": 512,
        "max_window_layers": layers,
        "model_type": "qwen2",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 512,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "transformers_version": "4.40.1",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocab,
        **more,
    }


def qwen3(hidden, heads, kv_heads, head_dim, ffn, layers, vocab, tied, dtype, **more):
    config = qwen2(hidden, heads, kv_heads, ffn, layers, vocab, tied, dtype)
    config |= {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": head_dim,
               "attention_bias": False, "rope_scaling": None, "sliding_window": None,
               "transformers_version": "4.51.0"}
    return config | more


def llama(hidden, heads, kv_heads, ffn, layers, vocab, tied, dtype, **more):
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": N_BASE + 1,
        "eos_token_id": EOS,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": ffn,
        "max_position_embeddings": 512,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 100000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "transformers_version": "4.42.3",
        "use_cache": True,
        "vocab_size": vocab,
        **more,
    }


def qwen_v1(hidden, heads, ffn, layers, vocab, seq_length, **more):
    return {
        "architectures": ["QWenLMHeadModel"],
        "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig",
                     "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
        "attn_dropout_prob": 0.0,
        "bf16": False,
        "emb_dropout_prob": 0.0,
        "fp16": False,
        "fp32": False,
        "hidden_size": hidden,
        "intermediate_size": 2 * ffn,
        "initializer_range": 0.02,
        "kv_channels": hidden // heads,
        "layer_norm_epsilon": 1e-06,
        "max_position_embeddings": 1024,
        "model_type": "qwen",
        "no_bias": True,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "onnx_safe": None,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": seq_length,
        "tie_word_embeddings": False,
        "tokenizer_class": "QWenTokenizer",
        "transformers_version": "4.32.0",
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": "auto",
        "use_logn_attn": True,
        "vocab_size": vocab,
        **more,
    }


# Keys as the first releases of Qwen v1 spelled them.
OLD_V1_KEYS = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer",
               "num_attention_heads": "n_head", "intermediate_size": "ffn_hidden_size",
               "max_position_embeddings": "n_positions", "vocab_size": "padded_vocab_size"}


def with_old_keys(config):
    return {OLD_V1_KEYS.get(k, k): v for k, v in config.items()}


def without_old_keys(config):
    new = {old: k for k, old in OLD_V1_KEYS.items()}
    return {new.get(k, k): v for k, v in config.items()}


def with_new_rope_keys(config, **rope):
    """As transformers 5 writes a config."""
    theta = config.pop("rope_theta")
    config.pop("rope_scaling", None)
    dtype = config.pop("torch_dtype")
    layer_types = ["full_attention"] * config["num_hidden_layers"]
    return config | {"dtype": dtype, "layer_types": layer_types, "transformers_version": "5.0.0",
                     "rope_parameters": {"rope_theta": theta, **rope}}


# An original length below 32 * 2 pi scales all pairs at least partly; one case has a longer one.
YARN = {"factor": 4.0, "original_max_position_embeddings": 64, "type": "yarn"}
LLAMA3 = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
          "original_max_position_embeddings": 64, "rope_type": "llama3"}

HF = {
    "qwen1.5-mha-f32": (qwen2(60, 5, 5, 100, 2, 311, False, "float32"), "F32", 1, SHORT_MEDIUM),
    "qwen2-gqa2-f16": (qwen2(64, 4, 2, 128, 3, 311, True, "float16"), "F16", 2, SHORT_MEDIUM),
    "qwen2-gqa7-f32": (qwen2(56, 7, 1, 100, 3, 311, True, "float32"), "F32", 1, SHORT_MEDIUM),
    "qwen2-sliding-f32": (
        qwen2(48, 6, 2, 96, 4, 300, True, "float32", use_sliding_window=True, sliding_window=24,
              max_window_layers=2), "F32", 1, [10, 120]),
    "qwen2.5-yarn-bf16": (
        qwen2(96, 4, 2, 136, 3, 331, True, "bfloat16", max_position_embeddings=64,
              rope_scaling=YARN), "BF16", 3, [5, 40, 180]),
    "qwen3-tied-bf16": (
        qwen3(64, 4, 2, 24, 100, 3, 311, True, "bfloat16"), "BF16", 1, SHORT_MEDIUM),
    "qwen3-yarn-f16": (
        with_new_rope_keys(qwen3(80, 7, 1, 40, 144, 2, 311, False, "float16",
                                 max_position_embeddings=128),
                           rope_type="yarn", factor=2.0, original_max_position_embeddings=64),
        "F16", 2, [7, 50, 120]),
    "llama-gqa3-bf16": (
        llama(72, 9, 3, 104, 4, 311, True, "bfloat16"), "BF16", 1, SHORT_MEDIUM),
    "llama3-rope-f32": (
        llama(64, 4, 2, 96, 2, 300, False, "float32", head_dim=16, rope_theta=500000.0,
              rope_scaling=LLAMA3), "F32", 1, [6, 60, 200]),
    "llama-linear-biased-f16": (
        llama(48, 3, 3, 72, 2, 300, False, "float16", attention_bias=True,
              rope_scaling={"factor": 2.0, "type": "linear"}), "F16", 1, [9, 70]),
    "qwen-v1-f32": (qwen_v1(64, 4, 100, 3, 512, 64, fp32=True), "F32", 1, [9, 60, 100, 200]),
    "qwen-v1-old-keys-bf16": (
        with_old_keys(qwen_v1(72, 3, 104, 3, 515, 32, bf16=True)), "BF16", 2, [20, 50, 150]),
    "qwen-v1-72b-f16": (
        qwen_v1(64, 2, 88, 2, 512, 64, fp16=True, rotary_emb_base=1000000, use_dynamic_ntk=False,
                use_logn_attn=False), "F16", 1, [11, 100]),
}


def mix(**rules):
    """tensor-name part (dots as underscores) -> GGUF type; the first that matches."""
    return {name.replace("__", "."): kind for name, kind in rules.items()}


GGUF = {
    "gguf-qwen2-f32-split": (
        qwen2(64, 4, 2, 96, 2, 311, False, "float32"), mix(weight="F32"), 2, [5, 90]),
    "gguf-qwen2-yarn-bf16": (
        qwen2(96, 4, 2, 136, 2, 311, True, "bfloat16", max_position_embeddings=4096,
              rope_scaling=YARN | {"original_max_position_embeddings": 4096}),
        mix(weight="BF16"), 1, [5, 180]),
    "gguf-llama-f16": (
        llama(72, 9, 3, 104, 3, 311, True, "float16"), mix(weight="F16"), 1, [5, 90]),
    "gguf-llama3-rope-f16": (
        llama(64, 4, 2, 96, 2, 300, False, "float16", rope_theta=500000.0, rope_scaling=LLAMA3),
        mix(weight="F16"), 1, [5, 180]),
    "gguf-qwen3-legacy": (
        qwen3(64, 4, 2, 24, 128, 3, 311, True, "float16"),
        mix(token_embd="Q8_0", attn_q="Q5_0", attn_k="Q5_1", attn_v="Q8_0", attn_output="Q4_1",
            ffn_gate="Q4_0", ffn_up="Q4_1", ffn_down="Q5_0"), 1, [5, 90]),
    "gguf-llama-legacy": (
        llama(96, 6, 2, 160, 3, 311, False, "float16"),
        mix(token_embd="Q4_1", output__weight="Q5_1", attn_q="Q4_0", attn_k="Q4_1", attn_v="Q5_0",
            attn_output="Q5_0", ffn_gate="Q5_1", ffn_up="Q8_0", ffn_down="Q4_0"), 1, [5, 90]),
    "gguf-qwen2-k": (
        qwen2(256, 8, 2, 256, 2, 311, False, "float16"),
        mix(token_embd="Q4_K", output__weight="Q6_K", attn_q="Q4_K", attn_k="Q5_K", attn_v="Q6_K",
            attn_output="Q4_K", ffn_gate="Q5_K", ffn_up="Q4_K", ffn_down="Q6_K"), 1, [5, 90]),
    "gguf-llama-k": (
        llama(256, 8, 8, 512, 1, 300, True, "float16"),
        mix(token_embd="Q6_K", attn_q="Q5_K", attn_k="Q4_K", attn_v="Q5_K", attn_output="Q6_K",
            ffn_gate="Q4_K", ffn_up="Q6_K", ffn_down="Q5_K"), 1, [5, 90]),
}
