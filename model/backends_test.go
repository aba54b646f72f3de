package model

import (
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/check"
)

// backendsTol bounds the relative difference of logits and gradients between two backends that round differently. Worst: 3.8e-6.
const backendsTol = 1e-5

// values returns the logits, the loss and the gradient of every tensor on a backend.
func (n net) values(t *testing.T, on compute.Backend, b batch) [][]float32 {
	t.Helper()
	return runOn(t, on, n.store, b.args(), func(in []*Node) []*Node {
		if fused := on.Name() == "polar"; fusedAttention(in[0].Graph()) != fused {
			t.Errorf("%s: fused attention %v", on.Name(), !fused)
		}
		loss, _ := n.Loss(n.store, b.inputs(in), Options{})
		var variables []*Node
		for _, p := range n.Parameters() {
			variables = append(variables, n.store.GetVariable(p.Path()).NodeValue(in[0].Graph()))
		}
		return append([]*Node{n.Logits(n.store, b.inputs(in), Options{}), loss}, Gradient(loss, variables...)...)
	})
}

// TestBackends: every decoder gives the same with attention in blocks of products and with the backend's own attention, with and
// without documents packed into the rows, in rows longer than a block.
func TestBackends(t *testing.T) {
	open := func(name string) compute.Backend {
		opened, err := backend.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(opened.Finalize)
		return opened
	}
	blocks, fused := open("go"), open("polar")
	for _, c := range decoderCases() {
		for _, packing := range []bool{false, true} {
			n := newNet(t, c.cfg)
			b := randomBatch(8, c.cfg.VocabSize, 2, smallPositions)
			if packing {
				b.segments = append(packed(1, 60, 10, 39, smallPositions-110), packed(100, smallPositions-100)...)
				for i := range b.segments {
					b.positions = append(b.positions, int32(i*5%smallPositions))
				}
			}
			want := n.values(t, blocks, b)
			got := newNet(t, c.cfg).values(t, fused, b)
			names := []string{"logits", "loss"}
			for _, p := range n.Parameters() {
				names = append(names, p.Name)
			}
			for i, name := range names {
				check.Close(t, c.name+": "+name, got[i], want[i], backendsTol)
			}
			b.tokens[0] = (b.tokens[0] + 1) % int32(c.cfg.VocabSize)
			if other := newNet(t, c.cfg).values(t, fused, b); check.Compare(other[0], want[0], backendsTol) == "" {
				t.Errorf("%s: another token gives the same logits", c.name)
			}
		}
	}
}
