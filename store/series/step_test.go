package series

import "testing"

// How the programs name what they save.
func TestParseStep(t *testing.T) {
	for _, c := range []struct {
		rel   string
		step  int64
		place string
	}{
		// transformers Trainer
		{"out/checkpoint-120/model.safetensors", 120, "out/checkpoint-*/model.safetensors"},
		{"out/checkpoint-120/optimizer.pt", 120, "out/checkpoint-*/optimizer.pt"},
		{"out/checkpoint-1500/model-00001-of-00004.safetensors", 1500, "out/checkpoint-*/model-00001-of-00004.safetensors"},
		{"out/checkpoint-1500/pytorch_model-00002-of-00004.bin", 1500, "out/checkpoint-*/pytorch_model-00002-of-00004.bin"},
		{"out/checkpoint-500/rng_state_3.pth", 500, "out/checkpoint-*/rng_state_3.pth"},
		{"out/model.safetensors", NoStep, "out/model.safetensors"},
		{"model-00001-of-00004.safetensors", NoStep, "model-00001-of-00004.safetensors"},
		// DeepSpeed, alone and below the Trainer
		{"ds/global_step120/mp_rank_00_model_states.pt", 120, "ds/global_step*/mp_rank_00_model_states.pt"},
		{"o/checkpoint-60/global_step60/zero_pp_rank_3_mp_rank_00_optim_states.pt", 60,
			"o/checkpoint-*/global_step*/zero_pp_rank_3_mp_rank_00_optim_states.pt"},
		{"o/global_step60/bf16_zero_pp_rank_12_mp_rank_01_optim_states.pt", 60, "o/global_step*/bf16_zero_pp_rank_12_mp_rank_01_optim_states.pt"},
		{"o/global_step60/layer_03-model_00-model_states.pt", 60, "o/global_step*/layer_03-model_00-model_states.pt"},
		{"o/global_step60/layer_0_expert_5_mp_rank_00_model_states.pt", 60, "o/global_step*/layer_0_expert_5_mp_rank_00_model_states.pt"},
		{"fp32/pytorch_model.bin", NoStep, "fp32/pytorch_model.bin"},
		// Megatron-LM
		{"m/iter_0000100/mp_rank_00/model_optim_rng.pt", 100, "m/iter_*/mp_rank_00/model_optim_rng.pt"},
		{"m/iter_0000100/mp_rank_01_003/distrib_optim.pt", 100, "m/iter_*/mp_rank_01_003/distrib_optim.pt"},
		{"m/iter_0000100/__0_12.distcp", 100, "m/iter_*/__0_12.distcp"},
		{"m/release/mp_rank_00/model_optim_rng.pt", NoStep, "m/release/mp_rank_00/model_optim_rng.pt"},
		// Lightning
		{"lightning_logs/version_0/checkpoints/epoch=3-step=1200.ckpt", 1200, "lightning_logs/version_0/checkpoints/epoch=*-step=*.ckpt"},
		{"l/epoch=02-val_loss=0.32.ckpt", 2, "l/epoch=*-val_loss=*.ckpt"},
		{"l/epoch=2-step=300-v1.ckpt", 300, "l/epoch=*-step=*-v1.ckpt"},
		{"l/last.ckpt", NoStep, "l/last.ckpt"},
		{"l/last-v12.ckpt", NoStep, "l/last-v12.ckpt"},
		// torchtune
		{"t/epoch_0/model-00001-of-00004.safetensors", 0, "t/epoch_*/model-00001-of-00004.safetensors"},
		{"t/epoch_1/ft-model-00003-of-00004.safetensors", 1, "t/epoch_*/ft-model-00003-of-00004.safetensors"},
		{"t/step_250/recipe_state.pt", 250, "t/step_*/recipe_state.pt"},
		{"t/hf_model_0001_3.pt", 3, "t/hf_model_0001_*.pt"},
		{"t/meta_model_2.pt", 2, "t/meta_model_*.pt"},
		{"t/torchtune_model_2.pt", 2, "t/torchtune_model_*.pt"},
		{"t/adapter_4.pt", 4, "t/adapter_*.pt"},
		{"t/recipe_state.pt", NoStep, "t/recipe_state.pt"},
		// NeMo
		{"n/megatron_gpt--val_loss=2.31-step=1000-consumed_samples=256000.0.ckpt", 1000, "n/megatron_gpt--val_loss=*-step=*-consumed_samples=*.ckpt"},
		{"n/default--val_loss=0.5-epoch=1-step=99-last/weights/__3_1.distcp", 99, "n/default--val_loss=*-epoch=*-step=*-last/weights/__3_1.distcp"},
		{"n/mp_rank_01/gpt--step=40-epoch=0.ckpt", 40, "n/mp_rank_01/gpt--step=*-epoch=*.ckpt"},
		// accelerate
		{"a/checkpoints/checkpoint_7/model.safetensors", 7, "a/checkpoints/checkpoint_*/model.safetensors"},
		{"a/checkpoint_7/model_1.safetensors", 7, "a/checkpoint_*/model_1.safetensors"},
		{"a/step_50/random_states_0.pkl", 50, "a/step_*/random_states_0.pkl"},
		{"a/step_50/pytorch_model_fsdp_0/__0_0.distcp", 50, "a/step_*/pytorch_model_fsdp_0/__0_0.distcp"},
		{"a/epoch_3/optimizer_1.bin", 3, "a/epoch_*/optimizer_1.bin"},
		{"a/model_1.safetensors", NoStep, "a/model_1.safetensors"},
		// fairseq
		{"f/checkpoint12.pt", 12, "f/checkpoint*.pt"},
		{"f/checkpoint_3_5000.pt", 5000, "f/checkpoint_*_*.pt"},
		{"f/checkpoint_3_5000-shard7.pt", 5000, "f/checkpoint_*_*-shard7.pt"},
		{"f/checkpoint_best.pt", NoStep, "f/checkpoint_best.pt"},
		{"f/checkpoint_last-rank-5-shard5.pt", NoStep, "f/checkpoint_last-rank-5-shard5.pt"},
		{"f/checkpoint.best_loss_3.2.pt", NoStep, "f/checkpoint.best_loss_3.2.pt"},
		// torchtitan, OLMo, orbax, diffusion, detectron, TensorFlow, by hand
		{"tt/step-100/__63_0.distcp", 100, "tt/step-*/__63_0.distcp"},
		{"olmo/step1000-unsharded/model.pt", 1000, "olmo/step*-unsharded/model.pt"},
		{"orbax/300/default.npz", 300, "orbax/*/default.npz"},
		{"d/ema_0.9999_010000.pt", 10000, "d/ema_0.9999_*.pt"},
		{"d/model010000.pt", 10000, "d/model*.pt"},
		{"d/model_0004999.pth", 4999, "d/model_*.pth"},
		{"d/model.ckpt-1000.data-00000-of-00002", 1000, "d/model.ckpt-*.data-00000-of-00002"},
		{"v/G_1000.pth", 1000, "v/G_*.pth"},
		{"v/ckpt_10k.pt", 10000, "v/ckpt_*k.pt"},
		{"v/run-120steps.pt", 120, "v/run-*steps.pt"},
		{"v/ckpt_000300_ema.pt", 300, "v/ckpt_*_ema.pt"},
		{"v/step-30.safetensors", 30, "v/step-*.safetensors"},
		{"0500.npy", 500, "*.npy"},
		// numbers that are no steps
		{"rank_3/model.pt", NoStep, "rank_3/model.pt"},
		{"rank3/step_20/x.pt", 20, "rank3/step_*/x.pt"},
		{"consolidated.00.pth", NoStep, "consolidated.00.pth"},
		{"llama-7b/weights_bf16.pt", NoStep, "llama-7b/weights_bf16.pt"},
		{"exp_12/seed-42/model.pt", NoStep, "exp_12/seed-42/model.pt"},
		{"run-2024-05-01/model.pt", NoStep, "run-2024-05-01/model.pt"},
		{"step_99999999999999999999/x.pt", NoStep, "step_99999999999999999999/x.pt"},
		{"", NoStep, ""},
		{"x", NoStep, "x"},
		{"step_", NoStep, "step_"},
		{"=5", NoStep, "=5"},
	} {
		if step, place := ParseStep(c.rel); step != c.step || place != c.place {
			t.Errorf("%s: step %d at %s, not %d at %s", c.rel, step, place, c.step, c.place)
		}
	}
}

// Whatever the path, ParseStep returns, with a step or none.
func FuzzParseStep(f *testing.F) {
	for _, seed := range []string{"a/checkpoint-5/model-1-of-2.bin", "epoch=1-step=2.5.ckpt", "//=.0.", "9223372036854775808k", "ckpt_9223372036854775807m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rel string) {
		step, place := ParseStep(rel)
		if step < NoStep || step == NoStep && place != rel {
			t.Errorf("%q: %d, %q", rel, step, place)
		}
	})
}
