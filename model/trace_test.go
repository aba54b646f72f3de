package model

import (
	"fmt"
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
)

// traced runs the logits (or the loss) with Trace and returns the parts in the order they were named, with their values.
func (n net) traced(t *testing.T, b batch, checkpoint, loss bool) (names []string, parts [][]float32) {
	parts = run(t, n.store, b.args(), func(in []*Node) []*Node {
		names = nil
		var nodes []*Node
		opts := Options{Checkpoint: checkpoint, Trace: func(name string, x *Node) { names, nodes = append(names, name), append(nodes, x) }}
		if loss {
			n.Loss(n.store, b.inputs(in), opts)
		} else {
			n.Logits(n.store, b.inputs(in), opts)
		}
		return nodes
	})
	return names, parts
}

// TestTraceNames: every part is named once, in order; with Checkpoint only what is outside the blocks, and each block.
func TestTraceNames(t *testing.T) {
	for _, architecture := range []string{"llama", "gpt2"} {
		n := newNet(t, small(architecture, nil))
		prefix := map[string]string{"llama": "model.layers.%d", "gpt2": "transformer.h.%d"}[architecture]
		whole, blocks := []string{"embedding"}, []string{"embedding"}
		for i := range 2 {
			name := fmt.Sprintf(prefix, i)
			whole, blocks = append(whole, name+".attention", name+".mlp"), append(blocks, name)
		}
		whole, blocks = append(whole, "final norm"), append(blocks, "final norm")
		b := randomBatch(1, n.cfg.VocabSize, 1, 4)
		for _, c := range []struct {
			checkpoint, loss bool
			want             []string
		}{{false, true, whole}, {true, true, blocks}, {false, false, append(slices.Clone(whole), "head")}} {
			names, parts := n.traced(t, b, c.checkpoint, c.loss)
			if !slices.Equal(names, c.want) {
				t.Errorf("%s, %+v: %q, want %q", architecture, c, names, c.want)
			}
			for i, part := range parts {
				if want := 4 * n.cfg.Hidden; names[i] != "head" && len(part) != want {
					t.Errorf("%s: %s has %d values, want %d", architecture, names[i], len(part), want)
				}
			}
		}
	}
}

// TestTraceLocates: the first part that is not finite is the one whose weight is damaged.
func TestTraceLocates(t *testing.T) {
	for name, want := range map[string]string{
		"model.embed_tokens.weight":                      "embedding",
		"model.layers.0.input_layernorm.weight":          "model.layers.0.attention",
		"model.layers.0.self_attn.k_proj.weight":         "model.layers.0.attention",
		"model.layers.0.mlp.gate_proj.weight":            "model.layers.0.mlp",
		"model.layers.1.self_attn.o_proj.weight":         "model.layers.1.attention",
		"model.layers.1.post_attention_layernorm.weight": "model.layers.1.mlp",
		"model.layers.1.mlp.down_proj.weight":            "model.layers.1.mlp",
		"model.norm.weight":                              "final norm",
		"lm_head.weight":                                 "head",
		"":                                               "", // nothing damaged
	} {
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			n := newNet(t, small("llama", nil))
			b := randomBatch(1, n.cfg.VocabSize, 1, 6)
			if name != "" {
				p := n.tensor(t, name)
				at := 1
				if p.Role == "embedding" {
					at = int(b.tokens[2]) * n.cfg.Hidden
				}
				n.weights[name][at] = float32(bad)
				n.set(p, n.weights[name])
			}
			names, parts := n.traced(t, b, false, false)
			first := ""
			if i := slices.IndexFunc(parts, func(x []float32) bool { return !finite(x) }); i >= 0 {
				first = names[i]
			}
			if first != want {
				t.Errorf("%g in %q was found in %q, want %q", bad, name, first, want)
			}
		}
	}
}
