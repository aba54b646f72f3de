package model

import (
	"testing"

	"github.com/polargo/polar/internal/check"
)

// Relative errors of float32 through two layers, against float64. The worst below are 3e-7 of the logits and 3e-6 of
// the derivatives, whose terms cancel in part.
const (
	logitsTol   = 4e-6
	gradientTol = 2e-5
)

func flat(rows [][]float64) (out []float64) {
	for _, row := range rows {
		out = append(out, row...)
	}
	return out
}

// forEach runs a test for every decoder.
func forEach(t *testing.T, test func(t *testing.T, n net)) {
	for _, c := range decoderCases() {
		t.Run(c.name, func(t *testing.T) { test(t, newNet(t, c.cfg)) })
	}
}

// uneven makes every third value 1% larger: something that no norm takes out, and no softmax.
func uneven(x []float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i] * (1 + 0.01*float64(i%3/2))
	}
	return out
}

// TestLogits compares the logits with the plain decoder's, and shows that a third of a tensor off by 1% would be seen.
func TestLogits(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := randomBatch(1, n.cfg.VocabSize, 2, 7)
		got := wide(n.logits(t, b, Options{}))
		check.Close(t, "logits", got, flat(n.plain().batchLogits(b)), logitsTol)
		for _, p := range n.Parameters() {
			wrong := n.plain()
			wrong.weights[p.Name] = uneven(wrong.weights[p.Name])
			bites(t, p.Name, got, flat(wrong.batchLogits(b)), logitsTol)
		}
	})
}

// TestGradients compares the gradient of the loss with respect to every tensor with differences of the plain decoder's loss.
func TestGradients(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := randomBatch(2, n.cfg.VocabSize, 2, 6)
		loss, weights, gradients := n.lossAndGradients(t, b, Options{})
		check.Close(t, "loss", []float64{float64(loss)}, []float64{n.plain().loss(b)}, logitsTol)
		total := 0.0
		for _, w := range b.weights {
			total += float64(w)
		}
		check.Close(t, "sum of weights", []float64{float64(weights)}, []float64{total}, 8*eps32)
		for i, p := range n.Parameters() {
			moved := n.plain()
			value := moved.weights[p.Name]
			predicted, want := alongDirections(uint64(i), func(x []float64) float64 {
				moved.weights[p.Name] = x
				return moved.loss(b)
			}, value, gradients[i])
			check.Close(t, p.Name, predicted, want, gradientTol)
			bites(t, p.Name, predicted, each(func(x float64) float64 { return 1.001 * x }, want), gradientTol)
		}
	})
}

// TestCheckpoint: recomputing the blocks changes no bit of the loss and the gradients: the same operations run twice.
func TestCheckpoint(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		b := randomBatch(3, n.cfg.VocabSize, 2, 6)
		loss, _, gradients := n.lossAndGradients(t, b, Options{})
		again, _, recomputed := n.lossAndGradients(t, b, Options{Checkpoint: true})
		same(t, "loss", []float32{again}, []float32{loss})
		for i, p := range n.Parameters() {
			same(t, p.Name, recomputed[i], gradients[i])
		}
	})
}

// TestLossChunk: the size of the chunks of logits changes nothing beyond rounding.
func TestLossChunk(t *testing.T) {
	const tol = 64 * eps32 // other orders of the sums over 12 tokens; the gradients of keys' biases nearly cancel: 14 eps32
	forEach(t, func(t *testing.T, n net) {
		b := randomBatch(4, n.cfg.VocabSize, 2, 6)
		loss, _, gradients := n.lossAndGradients(t, b, Options{})
		for _, chunk := range []int{1, 5, 12} {
			again, _, other := n.lossAndGradients(t, b, Options{LossChunk: chunk})
			check.Close(t, "loss", []float32{again}, []float32{loss}, tol)
			for i, p := range n.Parameters() {
				check.Close(t, p.Name, other[i], gradients[i], tol)
			}
		}
	})
}
