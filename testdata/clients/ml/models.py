"""transformers, its Trainer, accelerate and PEFT."""

import os
import pathlib
import re

import accelerate
import peft
import torch
import transformers
from accelerate.utils import ProjectConfiguration
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from common import check, sums, trained

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def llama():
    torch.manual_seed(7)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=2000, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64))


def save_pretrained():
    loaded = {}
    for dtype in torch.bfloat16, torch.float32:
        model = llama().to(dtype)
        for name, limit in ("whole", "50GB"), ("sharded", "300KB"), ("sharded", "500KB"):  # the last removes stale shards
            model.save_pretrained(f"{name}-{dtype}", max_shard_size=limit)
            back = AutoModelForCausalLM.from_pretrained(f"{name}-{dtype}", dtype=dtype)
            loaded[f"{name} {limit} {dtype}"] = check(back.state_dict(), model.state_dict())
        assert len(list(pathlib.Path(f"sharded-{dtype}").glob("model-*.safetensors"))) > 1
    return loaded


def trainer(**more):
    rows = [{"input_ids": (ids := torch.randint(0, 2000, (16,), generator=torch.Generator().manual_seed(i))), "labels": ids} for i in range(64)]
    args = TrainingArguments(
        output_dir="run", max_steps=8, save_steps=2, save_total_limit=2, per_device_train_batch_size=4, logging_steps=1,
        learning_rate=1e-3, report_to=[], use_cpu=True, disable_tqdm=True, seed=1, **more)
    return Trainer(model=llama(), args=args, train_dataset=rows)


def losses(t):
    return {row["step"]: row["loss"] for row in t.state.log_history if "loss" in row}


def train_rotate_resume():
    """A run whose checkpoints rotate, then one that goes on from the older of
    those that are left: it must have the same losses."""
    first = trainer()
    first.train()
    left = sorted(p.name for p in pathlib.Path("run").iterdir())
    assert left == ["checkpoint-6", "checkpoint-8"], left
    second = trainer()
    second.train(resume_from_checkpoint="run/checkpoint-6")
    want, got = losses(first), losses(second)
    assert len(want) == 8 and got == want, (got, want)
    check(second.model.state_dict(), first.model.state_dict())
    for p in pathlib.Path("run").glob("*/trainer_state.json"):
        timeless(p)
    return want, sums(first.model.state_dict()), sorted(p.name for p in pathlib.Path("run").iterdir())


def timeless(path):
    """Takes what is measured out of a state, so that two runs can be compared."""
    text = path.read_text()
    path.write_text(re.sub(r'"(train_runtime|train_samples_per_second|train_steps_per_second)": [0-9.e+-]+', r'"\1": 0', text))


def save_state():
    net, optimizer = trained()
    accelerator = accelerate.Accelerator(cpu=True, project_config=ProjectConfiguration(
        project_dir=".", automatic_checkpoint_naming=True, total_limit=2))
    net, optimizer = accelerator.prepare(net, optimizer)
    for _ in range(4):
        accelerator.save_state()
    want = {k: v.clone() for k, v in net.state_dict().items()}
    draw = torch.rand(1).item()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    accelerator.load_state("checkpoints/checkpoint_3")
    assert torch.rand(1).item() == draw
    assert sorted(os.listdir("checkpoints")) == ["checkpoint_2", "checkpoint_3"], os.listdir("checkpoints")
    accelerator.free_memory()
    return check(net.state_dict(), want)


def disk_offload():
    """Weights in numpy.memmap files, written through shared mappings."""
    model = llama().eval()
    ids = torch.arange(16)[None]
    with torch.no_grad():
        want = model(ids).logits.clone()
        accelerate.disk_offload(model, offload_dir="offloaded", execution_device=torch.device("cpu"))
        got = model(ids).logits
        again = model(ids).logits
    assert torch.equal(got, want) and torch.equal(again, want)
    return sums({"logits": got})


def adapters():
    def lora(model):
        torch.manual_seed(9)
        return peft.get_peft_model(model, peft.LoraConfig(r=32, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"))

    model = lora(llama())
    model.save_pretrained("adapter")
    back = peft.PeftModel.from_pretrained(llama(), "adapter")
    want = check(peft.get_peft_model_state_dict(back), peft.get_peft_model_state_dict(model))
    model.merge_and_unload().save_pretrained("merged")
    return want
