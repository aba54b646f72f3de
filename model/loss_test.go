package model

import (
	"math"
	"slices"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
)

// lossTol bounds the relative error of a loss of seven tokens and of its gradients: the engine's exp and log, sums over nine
// logits of four products.
const lossTol = 16 * eps32

// lossCase is a call of crossEntropy for x [7, 4] and a head [9, 4].
type lossCase struct {
	x, head array
	targets []int32
	weights []float32
	chunk   int
}

const lossRows, lossWidth, lossVocabulary = 7, 4, 9

func newLossCase(scale float64) lossCase {
	return lossCase{
		x: random(1, scale, lossRows, lossWidth), head: random(2, 1, lossVocabulary, lossWidth),
		targets: []int32{0, 8, 3, 3, 5, 1, 7}, weights: []float32{1, 0.5, 0, 2, 1, 1, 0.25}, chunk: lossRows,
	}
}

// run returns the loss and the gradients of x and head of 1.5 times it.
func (c lossCase) run(t *testing.T) (loss, dx, dhead []float32) {
	targets, weights := tensors.FromFlatDataAndDimensions(c.targets, lossRows), tensors.FromFlatDataAndDimensions(c.weights, lossRows)
	args := []any{c.x.tensor(), c.head.tensor(), targets, weights}
	out := run(t, mlmodel.NewStore(), args, func(in []*Node) []*Node {
		loss := crossEntropy(in[0], in[1], in[2], in[3], c.chunk)
		return append([]*Node{loss}, Gradient(MulScalar(loss, 1.5), in[0], in[1])...)
	})
	return out[0], out[1], out[2]
}

// logits returns the logits of row i in float64.
func (c lossCase) logits(i int) []float64 {
	return lossLogits(wide(c.x.values), wide(c.head.values), i)
}

func lossLogits(x, head []float64, i int) []float64 {
	logits := make([]float64, lossVocabulary)
	for j := range logits {
		logits[j] = dot(x[i*lossWidth:(i+1)*lossWidth], head[j*lossWidth:(j+1)*lossWidth])
	}
	return logits
}

// plain is the loss of x and head in float64.
func (c lossCase) plain(x, head []float64) (total float64) {
	for i, target := range c.targets {
		total += float64(c.weights[i]) * plainCrossEntropy(lossLogits(x, head, i), target)
	}
	return total
}

// exact is the loss in float64.
func (c lossCase) exact() []float64 { return []float64{c.plain(wide(c.x.values), wide(c.head.values))} }

// slopes returns the plain gradients of 1.5 times the loss.
func (c lossCase) slopes() (dx, dhead []float64) {
	factor := 1.5 / float64(weighting(1)[0]) // undoes the weighting of slopes
	f := func(x [][]float64) []float64 { return []float64{factor * c.plain(x[0], x[1])} }
	inputs := [][]float64{wide(c.x.values), wide(c.head.values)}
	return slopes(f, inputs, 0), slopes(f, inputs, 1)
}

func (c lossCase) test(t *testing.T, name string, tol float64) {
	loss, dx, dhead := c.run(t)
	check.Close(t, name+" loss", wide(loss), c.exact(), tol)
	wantX, wantHead := c.slopes()
	check.Close(t, name+" gradient of x", wide(dx), wantX, tol)
	check.Close(t, name+" gradient of the head", wide(dhead), wantHead, tol)
	c.weights = append([]float32(nil), c.weights...)
	c.weights[3] *= 1.001
	wantX, wantHead = c.slopes()
	bites(t, name+" loss", wide(loss), c.exact(), tol)
	bites(t, name+" gradient of x", wide(dx), wantX, tol)
	bites(t, name+" gradient of the head", wide(dhead), wantHead, tol)
}

// TestCrossEntropy: value and gradients, whole and in chunks that do and do not divide the rows.
func TestCrossEntropy(t *testing.T) {
	for _, chunk := range []int{1, 3, lossRows, 100} {
		c := newLossCase(1)
		c.chunk = chunk
		c.test(t, "ordinary", lossTol)
	}
}

// largeTol is for logits of 200, whose rounding alone is 200·eps32: an absolute error of the loss, some 200, and a relative one
// of the probabilities. The worst below is 3 eps32.
const largeTol = 64 * eps32

// TestCrossEntropyLargeLogits: logits beyond ±200, targets up to 80 below the top, about the least likely that float32 can say.
func TestCrossEntropyLargeLogits(t *testing.T) {
	c := newLossCase(200)
	largest := 0.0
	for i := range c.targets {
		logits := c.logits(i)
		top, target := slices.Max(logits), 0
		for j, x := range logits {
			largest = max(largest, math.Abs(x))
			if x > top-80 && x < logits[target] || logits[target] <= top-80 {
				target = j
			}
		}
		c.targets[i] = int32(target)
	}
	if largest < 200 {
		t.Fatalf("the largest logit is %g, not near 200", largest)
	}
	c.test(t, "large", largeTol)
}

// TestCrossEntropyUnderflow: a target less likely than float32 can say counts as e^-87.3; its gradient is the true one.
func TestCrossEntropyUnderflow(t *testing.T) {
	c := newLossCase(1)
	for i := range lossWidth { // logits of row 0 are 300 times the head's products with its first row: target 0 is certain
		c.x.values[i] = 300 * c.head.values[i]
	}
	c.weights = []float32{1, 0, 0, 0, 0, 0, 0}
	logits := c.logits(0)
	c.targets[0] = int32(slices.Index(logits, slices.Min(logits)))
	loss, dx, dhead := c.run(t)
	if exact := c.exact()[0]; exact < 100 {
		t.Fatalf("the loss is only %g: nothing underflows", exact)
	}
	check.Close(t, "loss", wide(loss), []float64{-math.Log(smallest)}, lossTol)
	wantX, wantHead := c.slopes()
	check.Close(t, "gradient of x", wide(dx), wantX, largeTol)
	check.Close(t, "gradient of the head", wide(dhead), wantHead, largeTol)
}

// TestCrossEntropyNaN: whatever is not finite in any input of a token makes the loss NaN, with weight 0 too.
func TestCrossEntropyNaN(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, damage := range map[string]func(c lossCase){
		"x":             func(c lossCase) { c.x.values[5] = nan },
		"x of weight 0": func(c lossCase) { c.x.values[2*lossWidth] = nan },
		"head":          func(c lossCase) { c.head.values[3] = nan },
		"infinite x":    func(c lossCase) { c.x.values[5] = inf },
		"infinite head": func(c lossCase) { c.head.values[8*lossWidth] = -inf },
		"weight":        func(c lossCase) { c.weights[0] = nan },
		"overflowing products": func(c lossCase) {
			c.x.values[5], c.x.values[6] = 3e38, 3e38
			c.head.values[2*lossWidth+1], c.head.values[2*lossWidth+2] = 3e38, 3e38
		},
	} {
		for _, chunk := range []int{2, lossRows} {
			c := newLossCase(1)
			c.chunk = chunk
			damage(c)
			if loss, _, _ := c.run(t); loss[0] == loss[0] {
				t.Errorf("%s, chunks of %d: the loss is %v, want NaN", name, chunk, loss[0])
			}
		}
	}
}

// TestCrossEntropyWeightZero: masked tokens change neither loss nor gradients, and have none.
func TestCrossEntropyWeightZero(t *testing.T) {
	c := newLossCase(1)
	loss, dx, dhead := c.run(t)
	for i, x := range dx[2*lossWidth : 3*lossWidth] {
		if x != 0 {
			t.Errorf("gradient %d of a masked row is %g", i, x)
		}
	}
	c.targets[2] = 6
	otherLoss, _, otherHead := c.run(t)
	same(t, "loss", otherLoss, loss)
	check.Close(t, "gradient of the head", otherHead, dhead, lossTol)
}
