package adapter

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/param"
)

// exportTol: the scale is folded into the factors and the products cancel against the start's, in float32 each.
const exportTol = 1e-5

// TestExportRoundTrip trains, exports, writes, reads and applies an adapter to the original base: the weights must be the
// trained ones, for every start, scale and set of targets.
func TestExportRoundTrip(t *testing.T) {
	for name, layers := range map[string][]param.Layer{"llama": testLayers(), "gpt2": gpt2Layers()} {
		for _, init := range Inits() {
			for _, rank := range []int{1, 4, 12} { // 12 is all of the smallest layer, whose export then has rank 24
				t.Run(fmt.Sprintf("%s/%s/rank %d", name, init, rank), func(t *testing.T) {
					cfg := configOf(init)
					cfg.Rank, cfg.RSLoRA = rank, rank == 4
					s, before := newTestSet(t, layers, cfg, 1)
					train(t, s, 0.05, 3)
					want := effective(t, s)
					loaded := throughDisk(t, s)
					wantRank := 2 * cfg.Rank
					if init == InitLoRA {
						wantRank = cfg.Rank
					}
					if loaded.Rank != wantRank || loaded.Alpha != float64(wantRank) || loaded.FanInFanOut != (name == "gpt2") {
						t.Fatalf("rank %d alpha %g fan_in_fan_out %v", loaded.Rank, loaded.Alpha, loaded.FanInFanOut)
					}
					again, err := FromPEFT(testStore(layers, 1), layers, loaded)
					if err != nil {
						t.Fatal(err)
					}
					got := effective(t, again)
					for _, layer := range layers {
						change := slices.Clone(want[layer.Name])
						trained := slices.Clone(got[layer.Name])
						for i, value := range before[layer.Name] {
							change[i] -= float64(value)
							trained[i] -= float64(value)
						}
						closeTo(t, layer.Name, trained, change, exportTol)
					}
				})
			}
		}
	}
}

func throughDisk(t *testing.T, s *Set) *peft.Adapter {
	t.Helper()
	a, err := s.Adapter("some/base")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := peft.Save(dir, a, nil); err != nil {
		t.Fatal(err)
	}
	loaded, err := peft.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// TestContinue holds that a loaded adapter trains on and exports at its own rank.
func TestContinue(t *testing.T) {
	layers := testLayers()
	s, _ := newTestSet(t, layers, configOf(InitBalanced), 1)
	train(t, s, 0.05, 3)
	again, err := FromPEFT(testStore(layers, 1), layers, throughDisk(t, s))
	if err != nil {
		t.Fatal(err)
	}
	v := again.store.GetVariable(factorPath("/adapter", layers[0].Name, param.SideA))
	if _, found, _ := param.Lookup(again.store, v); !found || !v.Trainable || again.store.GetVariable(layers[0].Weight).Trainable {
		t.Error("the factors are not trainable, or the base is")
	}
	train(t, again, 0.05, 4)
	want := effective(t, again)
	third, err := FromPEFT(testStore(layers, 1), layers, throughDisk(t, again))
	if err != nil {
		t.Fatal(err)
	}
	if third.pairs[0].rank != 8 {
		t.Errorf("rank %d", third.pairs[0].rank)
	}
	got := effective(t, third)
	for _, layer := range layers {
		closeTo(t, layer.Name, got[layer.Name], want[layer.Name], exportTol)
	}
}

// TestTargets holds that target_modules are short and match exactly the adapted layers by PEFT's rule.
func TestTargets(t *testing.T) {
	cases := []struct {
		name          string
		layers        []param.Layer
		targets, want []string
	}{
		{"all", testLayers(), nil, []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}},
		{"one kind", testLayers(), []string{"q_proj"}, []string{"q_proj"}},
		{"one block", testLayers(), []string{"layers.1.mlp.*"}, []string{"1.mlp.gate_proj", "1.mlp.up_proj", "1.mlp.down_proj"}},
		{"one layer", testLayers(), []string{"model.layers.0.mlp.up_proj"}, []string{"0.mlp.up_proj"}},
		{"GPT-2 attention only", gpt2Layers(), []string{"attn.*"}, []string{"c_attn", "attn.c_proj"}},
		{"GPT-2", gpt2Layers(), nil, []string{"c_attn", "c_proj", "c_fc"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := configOf(InitLoRA)
			cfg.Targets = c.targets
			s, _ := newTestSet(t, c.layers, cfg, 1)
			got := s.targets()
			for i, target := range got {
				got[i] = strings.TrimPrefix(target, "layers.")
			}
			if !slices.Equal(got, c.want) {
				t.Fatalf("targets %q, want %q", got, c.want)
			}
			loaded := throughDisk(t, s)
			for _, layer := range c.layers {
				if _, adapted := s.index[layer.Name]; loaded.Matches(layer.Name) != adapted {
					t.Errorf("%s: matches %v, adapted %v", layer.Name, !adapted, adapted)
				}
			}
		})
	}
}

// TestGPT2Prefix holds that layers named as in GPT-2's original checkpoint are written with the name PEFT has for them,
// and found again.
func TestGPT2Prefix(t *testing.T) {
	layers := gpt2Layers()
	for i := range layers {
		layers[i].Name = strings.TrimPrefix(layers[i].Name, gpt2Prefix)
	}
	s, _ := newTestSet(t, layers, configOf(InitLoRA), 1)
	loaded := throughDisk(t, s)
	if name := loaded.Pairs[0].Layer; name != "transformer.h.0.attn.c_attn" {
		t.Errorf("written as %s", name)
	}
	if _, err := FromPEFT(testStore(layers, 1), layers, loaded); err != nil {
		t.Error(err)
	}
}

// TestFromPEFTErrors holds that everything that does not fit is one line.
func TestFromPEFTErrors(t *testing.T) {
	layers := testLayers()
	cfg := configOf(InitLoRA)
	s, _ := newTestSet(t, layers, cfg, 1)
	fresh := func() *peft.Adapter { return throughDisk(t, s) }

	other := testLayers()[:7]
	other[0].FanIn, other[4].FanOut = 30, 48
	_, err := FromPEFT(testStore(other, 1), other, fresh())
	for _, want := range []string{
		"layer model.layers.0.self_attn.q_proj: lora_B·lora_A is 24 x 24, the model's weight is 24 x 30",
		"layer model.layers.0.mlp.gate_proj: lora_B·lora_A is 40 x 24, the model's weight is 48 x 24",
		"the model has no layer model.layers.1.mlp.up_proj (nearest: model.layers.0.mlp.up_proj)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one line with %q", err, want)
		}
	}
	missing := fresh()
	missing.Pairs = missing.Pairs[:len(missing.Pairs)-1]
	if _, err := FromPEFT(testStore(layers, 1), layers, missing); err == nil || !strings.Contains(err.Error(), "is among its target_modules but has no tensors") {
		t.Errorf("missing: %v", err)
	}
	bad := fresh()
	bad.Pairs[3].A[5] = float32(math.NaN())
	if _, err := FromPEFT(testStore(layers, 1), layers, bad); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("NaN: %v", err)
	}
	if _, err := FromPEFT(s.store, layers, fresh()); err == nil || !strings.Contains(err.Error(), "already has an adapter") {
		t.Errorf("twice: %v", err)
	}
}
