package recipe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/optimizer"
)

// tolWeights is the relative error of weights and losses computed in float32 against float64: worst measured 3e-7.
const tolWeights = 2e-6

// tinyNet returns a compiled network of one hidden layer under muon.
func tinyNet(t *testing.T, layers ...layer) *network {
	t.Helper()
	n := &network{
		layers: layers, loss: "cross-entropy",
		forward: func(w map[string]*Node, x *Node) *Node { return linear(relu(linear(x, w["a"])), w["b"]) },
	}
	rule, err := plainRule("muon", 0.9)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.compile(check.Backend(t), map[string]optimizer.Config{"": rule}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

// weight returns a weight of the network as float64.
func (n *network) weight(t *testing.T, l layer) *mat.Dense {
	t.Helper()
	flat, err := tensors.CopyFlatData[float32](n.store.GetVariable(l.path()).MustValue())
	if err != nil {
		t.Fatal(err)
	}
	return dense(flat, l.out, l.in)
}

func dense(flat []float32, rows, columns int) *mat.Dense {
	out := mat.NewDense(rows, columns, nil)
	for i, v := range flat {
		out.Set(i/columns, i%columns, float64(v))
	}
	return out
}

// TestStarts compares singular values and eigenvalues of the starts with what they should be.
func TestStarts(t *testing.T) {
	layers := []layer{{name: "a", out: 12, in: 5, start: orthonormal}, {name: "b", out: 3, in: 12, start: orthonormal}, {name: "s", out: 9, in: 9, start: symmetricPart}, {name: "p", out: 9, in: 9, start: positivePart}}
	n := tinyNet(t, layers...)
	if err := n.reset(3, 0.1); err != nil {
		t.Fatal(err)
	}
	for _, l := range layers[:2] {
		var svd mat.SVD
		if !svd.Factorize(n.weight(t, l), mat.SVDNone) {
			t.Fatal("no SVD")
		}
		want := math.Sqrt(float64(l.out) / float64(l.in))
		for _, s := range svd.Values(nil) {
			if math.Abs(s-want) > tolWeights*want {
				t.Errorf("%s: singular value %v, want %v", l.name, s, want)
			}
		}
	}
	eigenvalues := func(l layer) []float64 {
		w := n.weight(t, l)
		var difference mat.Dense
		if difference.Sub(w, w.T()); mat.Norm(&difference, 2) > tolWeights {
			t.Errorf("%s is not symmetric", l.name)
		}
		var eig mat.EigenSym
		if !eig.Factorize(mat.NewSymDense(l.out, w.RawMatrix().Data), false) {
			t.Fatal("no eigenvalues")
		}
		return eig.Values(nil)
	}
	symmetric, positive := eigenvalues(layers[2]), eigenvalues(layers[3])
	if low, high := symmetric[0], symmetric[8]; low < -1-tolWeights || high > 1+tolWeights || low > -0.5 || high < 0.5 {
		t.Errorf("eigenvalues of the symmetric start %v, want them spread over [-1, 1]", symmetric)
	}
	zero := 0
	for _, v := range positive {
		if math.Abs(v) < tolWeights {
			zero++
		}
		if v < -tolWeights || v > 1+tolWeights {
			t.Errorf("eigenvalue %v of the positive start", v)
		}
	}
	if zero < 2 || zero > 7 {
		t.Errorf("%d of 9 eigenvalues of the positive start are zero, want about half: %v", zero, positive)
	}
}

// TestStepMeasures compares loss, accuracy and the norm of the update with float64 computations from the weights before and after.
func TestStepMeasures(t *testing.T) {
	layers := []layer{{name: "a", out: 6, in: 2, start: orthonormal}, {name: "b", out: 2, in: 6, start: orthonormal}}
	n := tinyNet(t, layers...)
	if err := n.reset(1, 0.3); err != nil {
		t.Fatal(err)
	}
	x, labels := []float32{-1, -1, -1, 1, 1, -1}, []float32{1, 0, 0, 1, 0, 1}
	train := [2]*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, 3, 2), tensors.FromFlatDataAndDimensions(labels, 3, 2)}
	test := [2]*tensors.Tensor{tensors.FromFlatDataAndDimensions([]float32{1, 1}, 1, 2), tensors.FromFlatDataAndDimensions([]float32{1, 0}, 1, 2)}
	before := []*mat.Dense{n.weight(t, layers[0]), n.weight(t, layers[1])}
	got, err := n.call(n.step, [4]*tensors.Tensor{train[0], train[1], test[0], test[1]})
	if err != nil {
		t.Fatal(err)
	}
	loss, accuracy := referenceLoss(before, dense(x, 3, 2), dense(labels, 3, 2))
	testLoss, testAccuracy := referenceLoss(before, dense([]float32{1, 1}, 1, 2), dense([]float32{1, 0}, 1, 2))
	moved := 0.0
	for i, l := range layers {
		var d mat.Dense
		d.Sub(n.weight(t, l), before[i])
		moved = math.Hypot(moved, mat.Norm(&d, 2))
	}
	check.Close(t, "measures", []float64{got.loss, got.accuracy, got.testLoss, got.testAccuracy, got.moved}, []float64{loss, accuracy, testLoss, testAccuracy, moved}, tolWeights)
	if moved < 0.3 {
		t.Errorf("a step of rate 0.3 moved the weights by %v", moved)
	}
}

// referenceLoss is the cross-entropy and accuracy of tinyNet in float64.
func referenceLoss(weights []*mat.Dense, x, labels *mat.Dense) (loss, accuracy float64) {
	var hidden, out mat.Dense
	hidden.Mul(x, weights[0].T())
	hidden.Apply(func(_, _ int, v float64) float64 { return math.Max(v, 0) }, &hidden)
	out.Mul(&hidden, weights[1].T())
	rows, classes := out.Dims()
	for i := range rows {
		total, top, right := 0.0, 0, 0
		for j := range classes {
			total += math.Exp(out.At(i, j))
			if out.At(i, j) > out.At(i, top) {
				top = j
			}
			if labels.At(i, j) == 1 {
				right = j
			}
		}
		loss += (math.Log(total) - out.At(i, right)) / float64(rows)
		if top == right {
			accuracy += 1 / float64(rows)
		}
	}
	return loss, accuracy
}

// TestMod31Rows checks the data: all pairs once, half of them for training, right sums, inputs of RMS norm 1, another split for
// another seed, and batches that go through the training pairs.
func TestMod31Rows(t *testing.T) {
	pairs := pairsOf(4)
	seen := map[int]bool{}
	for _, pair := range pairs {
		seen[pair] = true
	}
	if len(pairs) != 961 || len(seen) != 961 || trainingRows != 480 || reflect.DeepEqual(pairs, pairsOf(5)) || !reflect.DeepEqual(pairs, pairsOf(4)) {
		t.Errorf("%d pairs, %d distinct, %d for training", len(pairs), len(seen), trainingRows)
	}
	whole := mod31Setting{Batch: 0}.batches(4)(0)
	if train, test := whole[0].Shape().Dim(0), whole[2].Shape().Dim(0); train != 480 || test != 481 {
		t.Errorf("%d and %d rows", train, test)
	}
	covered := map[string]bool{}
	small := mod31Setting{Batch: 96}.batches(4)
	for step := range 5 {
		rows := small(step)
		x, labels := tensors.MustCopyFlatData[float32](rows[0]), tensors.MustCopyFlatData[float32](rows[1])
		for i := range 96 {
			a, b, sum, norm := -1, -1, -1, 0.0
			for j := range 31 {
				if x[i*62+j] != 0 {
					a = j
				}
				if x[i*62+31+j] != 0 {
					b = j
				}
				if labels[i*31+j] == 1 {
					sum = j
				}
			}
			for j := range 62 {
				norm += float64(x[i*62+j]) * float64(x[i*62+j])
			}
			if a < 0 || b < 0 || sum != (a+b)%31 || math.Abs(norm/62-1) > tolWeights {
				t.Fatalf("row %d of step %d: %d + %d = %d, squared RMS norm %v", i, step, a, b, sum, norm/62)
			}
			covered[fmt.Sprint(a, " ", b)] = true
		}
	}
	if len(covered) != 480 {
		t.Errorf("a pass of five batches covers %d of 480 pairs", len(covered))
	}
	if first, second := tensors.MustCopyFlatData[float32](small(0)[0]), tensors.MustCopyFlatData[float32](small(5)[0]); reflect.DeepEqual(first, second) {
		t.Error("the second pass has the order of the first")
	}
}

// TestTrainStops ends at the context and where after says so.
func TestTrainStops(t *testing.T) {
	layers := []layer{{name: "a", out: 4, in: 2, start: orthonormal}, {name: "b", out: 2, in: 4, start: orthonormal}}
	n := tinyNet(t, layers...)
	x, y := tensors.FromFlatDataAndDimensions([]float32{1, -1}, 1, 2), tensors.FromFlatDataAndDimensions([]float32{1, 0}, 1, 2)
	rows := func(int) [4]*tensors.Tensor { return [4]*tensors.Tensor{x, y, x, y} }
	steps := 0
	if _, err := n.train(t.Context(), Trial{Rate: 0.1}, 10, rows, func(measured) bool { steps++; return steps < 3 }); err != nil || steps != 3 {
		t.Errorf("%d steps, %v", steps, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	steps = 0
	_, err := n.train(ctx, Trial{Rate: 0.1}, 10, rows, func(measured) bool {
		if steps++; steps == 2 {
			cancel()
		}
		return true
	})
	if !errors.Is(err, context.Canceled) || steps != 2 {
		t.Errorf("%d steps, %v", steps, err)
	}
	if _, err := n.train(t.Context(), Trial{Rate: -1}, 10, rows, func(measured) bool { return true }); err == nil {
		t.Error("a negative rate was accepted")
	}
}
