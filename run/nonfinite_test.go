package run

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	mlmodel "github.com/gomlx/gomlx/ml/model"
)

// poison puts a value into an element of a variable.
func poison(t *testing.T, v *mlmodel.Variable, value float32) {
	t.Helper()
	tensor, err := v.Value()
	if err != nil {
		t.Fatal(err)
	}
	if err := tensor.MutableFlatData(func(flat any) { flat.([]float32)[0] = value }); err != nil {
		t.Fatal(err)
	}
}

// TestNonFiniteLossNamesTheLayer: the first layer that is not finite, whether what is broken trains or not.
func TestNonFiniteLossNamesTheLayer(t *testing.T) {
	base, text := tinyModel(t), writeFile(t, "text.txt", words(300, 1))
	nan, large := float32(math.NaN()), float32(3e38)
	for _, test := range []struct {
		name, path string
		value      float32
		where      string
	}{
		{"frozen embedding", "/model/embed_tokens/weight", nan, "layer embedding"},
		{"frozen projection", "/model/layers/0/self_attn/v_proj/weight", nan, "layer model.layers.0.attention"},
		{"frozen MLP", "/model/layers/0/mlp/down_proj/weight", nan, "layer model.layers.0.mlp"},
		{"head", "/lm_head/weight", nan, "the loss"},
		{"overflow", "/model/layers/0/mlp/up_proj/weight", large, "layer model.layers.0.mlp"},
		{"trained factor", "/adapter/model/layers/0/mlp/up_proj/A", nan, "tensor model.layers.0.mlp.up_proj.A"},
	} {
		for _, checkpointing := range []bool{false, true} {
			cfg := tune(t, base, text)
			cfg.ActivationCheckpointing = checkpointing
			session := mustPrepare(t, cfg)
			poison(t, session.store.GetVariable(test.path), test.value)
			batch, err := session.corpus.Train().Batch(0, cfg.Batch)
			if err != nil {
				t.Fatal(err)
			}
			_, err = session.engine.step(batch, 2)
			var bad *NonFiniteError
			if !errors.As(err, &bad) || bad.What != "loss" || bad.Where != test.where {
				t.Errorf("%s: %v, want the loss, first at %s", test.name, err, test.where)
			}
		}
	}
}

// TestNonFiniteStopsTheRun: the message names step, layer and last good checkpoint, and that checkpoint reads.
func TestNonFiniteStopsTheRun(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	told := &log{}
	var session *Session
	session, err := Prepare(context.Background(), cfg, func(event Event) {
		told.sink(event)
		if step, ok := event.(StepDone); ok && step.Step == 4 {
			poison(t, session.store.GetVariable("/model/layers/0/self_attn/q_proj/weight"), float32(math.Inf(1)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	_, err = session.Run(context.Background())
	var bad *NonFiniteError
	want := filepath.Join(cfg.Out, checkpointsName, checkpointName(4))
	if !errors.As(err, &bad) || bad.Step != 5 || bad.LastCheckpoint != want {
		t.Fatalf("%v, want step 5 and %s", err, want)
	}
	mustSay(t, err, "step 5", "layer model.layers.0.attention", want)
	if _, err := readState(want); err != nil {
		t.Error(err)
	}
}

// TestExplodingRate: a rate beyond reason ends in a NonFiniteError or a finite loss, and never in a saved NaN.
func TestExplodingRate(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	cfg.Optimizer, cfg.LearningRate, cfg.WeightDecay, cfg.SaveEvery, cfg.Init = "sgd", 1e30, 0, 1, "lora"
	_, _, err := execute(context.Background(), cfg, nil)
	var bad *NonFiniteError
	if !errors.As(err, &bad) || bad.Step < 1 || bad.Where == "" {
		t.Fatalf("%v, want a NonFiniteError", err)
	}
	session := mustPrepare(t, Config{Resume: true, Out: cfg.Out})
	if name := firstNonFinite(session.engine.trainable); name != "" {
		t.Errorf("the checkpoint at %v holds %s, which is not finite", session.resumed, name)
	}
}

// TestWeightsThatAreNotFiniteAreNotSaved holds save's own check.
func TestWeightsThatAreNotFiniteAreNotSaved(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	session := mustPrepare(t, cfg)
	tr := &trainer{Session: session, state: newState("x"), saved: [2]int{-1, -1}}
	tr.state.Step = 1
	poison(t, session.store.GetVariable("/adapter/model/layers/0/mlp/up_proj/B"), float32(math.NaN()))
	mustSay(t, tr.save(), "step 1", "weights are not finite", "model.layers.0.mlp.up_proj.B", "no checkpoint was written yet")
	if paths, err := listCheckpoints(cfg.Out); err != nil || len(paths) > 0 {
		t.Errorf("%v, %v", paths, err)
	}
}

// TestNonFiniteValidation names the layer of an evaluation too.
func TestNonFiniteValidation(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	session := mustPrepare(t, cfg)
	poison(t, session.store.GetVariable("/model/layers/0/mlp/up_proj/weight"), float32(math.NaN()))
	_, err := session.Run(context.Background())
	mustSay(t, err, "step 0", "validation loss", "layer model.layers.0.mlp")
	if strings.Contains(err.Error(), "0x") {
		t.Error(err)
	}
}
