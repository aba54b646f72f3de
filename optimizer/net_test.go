package optimizer

import (
	"math"
	"math/rand/v2"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// The small network of the whole-run tests: x W1ᵀ, ReLU², W2ᵀ, cross-entropy against a teacher's probabilities. Every layer is
// W_pre + s·A Bᵀ with W_pre frozen.
const (
	netIn, netHidden, netOut = 24, 40, 12
	netRows                  = 256
	netSteps                 = 60
)

// net is one network in its own store with its data.
type net struct {
	store *mlmodel.Store
	x, y  *tensors.Tensor // [rows, in], [rows, out]
	s     float64
}

// start says how a net's factors begin.
type start struct {
	rank int
	s    float64 // scale of the pairs
	c    float64 // A times c, B over c
	kind string  // "balanced", or how large an orthonormal B is: a key of startScale
}

var startScale = map[string]float64{"zero": 0, "1e-8": 1e-8, "1e-5": 1e-5, "1e-3": 1e-3, "1e-2": 1e-2, "1e-1": 1e-1}

// newNet returns a net whose base fits a teacher, with factors that start as asked so that the function does not change,
// and data from a teacher that has moved away.
func newNet(t testing.TB, st start) *net {
	t.Helper()
	base := pretrained(t)
	rng := random(7, 7)
	n := &net{store: mlmodel.NewStore(), s: st.s}
	n.x, n.y = netData(rng, 0.5)
	for _, layer := range []string{"w1", "w2"} {
		out, in := base[layer].Dims()
		a, b := orthonormal(t, rng, out, st.rank), orthonormal(t, rng, in, st.rank)
		if st.kind == "balanced" {
			root := math.Pow(float64(out)/float64(in), 0.25) / math.Sqrt(st.s)
			a.Scale(root, a)
			b.Scale(root, b)
		} else {
			b.Scale(startScale[st.kind], b)
		}
		w := sub(base[layer], scaled(st.s, mul(a, b.T())))
		a.Scale(st.c, a)
		b.Scale(1/st.c, b)
		set(t, n.store, value{path: "/" + layer, x: w}).SetTrainable(false)
		for _, v := range pair("adapter/"+layer, a, b, st.s) {
			set(t, n.store, v)
		}
	}
	return n
}

// netData draws inputs and a teacher's probabilities of the classes; shift moves the teacher away from the unshifted one.
// The probabilities are noisy, so that no run ends at a loss near zero, where comparisons would be empty.
func netData(rng *rand.Rand, shift float64) (x, y *tensors.Tensor) {
	in := gaussian(rng, netRows, netIn)
	w1, w2 := gaussian(rng, netHidden, netIn), gaussian(rng, netOut, netHidden)
	w1 = add(w1, scaled(shift, gaussian(rng, netHidden, netIn)))
	hidden := mul(in, w1.T())
	hidden.Apply(func(_, _ int, v float64) float64 { return math.Max(v, 0) }, hidden)
	scores := add(scaled(0.1, mul(hidden, w2.T())), gaussian(rng, netRows, netOut))
	for i := range netRows {
		row, total := scores.RawRowView(i), 0.0
		for j := range row {
			row[j] = math.Exp(row[j])
			total += row[j]
		}
		floats.Scale(1/total, row)
	}
	x = tensors.FromFlatDataAndDimensions(oracle.Float32(in), netRows, netIn)
	return x, tensors.FromFlatDataAndDimensions(oracle.Float32(scores), netRows, netOut)
}

// linear builds the layer as base and adapter products; without an adapter only the base.
func (n *net) linear(x *Node, layer string) *Node {
	g := x.Graph()
	y := MatMul(x, Transpose(n.store.GetVariable("/"+layer).NodeValue(g), 0, 1))
	a, b := n.store.GetVariable("/adapter/"+layer+"/A"), n.store.GetVariable("/adapter/"+layer+"/B")
	if a == nil {
		return y
	}
	return Add(y, MulScalar(MatMul(MatMul(x, b.NodeValue(g)), Transpose(a.NodeValue(g), 0, 1)), n.s))
}

// loss builds the mean cross-entropy of rows x against the probabilities y.
func (n *net) loss(x, y *Node) *Node {
	h := Square(Max(n.linear(x, "w1"), ScalarZero(x.Graph(), x.DType())))
	return ReduceAllMean(Neg(ReduceSum(Mul(y, LogSoftmax(n.linear(h, "w2"), -1)), -1)))
}

// run takes full-batch steps, calls between after each, and returns the loss before each step and after the last.
func (n *net) run(t testing.TB, o *Optimizer, steps int, between ...func()) []float64 {
	t.Helper()
	exec, err := mlmodel.NewExec(check.Backend(t), n.store, func(scope *mlmodel.Scope, x, y *Node) *Node {
		loss := n.loss(x, y)
		o.UpdateGraph(scope, x.Graph(), loss)
		return loss
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	var losses []float64
	for range steps {
		losses = append(losses, n.call(t, exec))
		for _, do := range between {
			do()
		}
	}
	return append(losses, n.evaluate(t))
}

// evaluate returns the loss.
func (n *net) evaluate(t testing.TB) float64 {
	t.Helper()
	exec, err := mlmodel.NewExec(check.Backend(t), n.store, func(_ *mlmodel.Scope, x, y *Node) *Node { return n.loss(x, y) })
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	return n.call(t, exec)
}

// call runs a graph of the net that returns a scalar.
func (n *net) call(t testing.TB, exec *mlmodel.Exec) float64 {
	t.Helper()
	out, err := exec.Call(n.x, n.y)
	if err != nil {
		t.Fatal(err)
	}
	return float64(tensors.ToScalar[float32](out[0]))
}

// weight returns s·A Bᵀ of a layer.
func (n *net) weight(t testing.TB, layer string) *mat.Dense {
	t.Helper()
	return scaled(n.s, mul(get(t, n.store, "/adapter/"+layer+"/A"), get(t, n.store, "/adapter/"+layer+"/B").T()))
}

// last returns the final loss of a run, highest the largest.
func last(losses []float64) float64 { return losses[len(losses)-1] }

func highest(losses []float64) float64 {
	out := math.Inf(-1)
	for _, loss := range losses {
		if math.IsNaN(loss) {
			return math.Inf(1)
		}
		out = max(out, loss)
	}
	return out
}

var trainedBase map[string]*mat.Dense

// pretrained returns a base trained by muon on the unshifted teacher, once for the package.
func pretrained(t testing.TB) map[string]*mat.Dense {
	t.Helper()
	if trainedBase != nil {
		return trainedBase
	}
	rng := random(3, 3)
	n := &net{store: mlmodel.NewStore(), s: 1}
	n.x, n.y = netData(random(7, 7), 0)
	for _, layer := range []struct {
		name    string
		out, in int
	}{{"/w1", netHidden, netIn}, {"/w2", netOut, netHidden}} {
		rms := math.Sqrt(float64(layer.out) / float64(layer.in))
		set(t, n.store, dense(layer.name, scaled(rms, orthonormal(t, rng, layer.out, layer.in))))
	}
	cfg := setting(t, "muon", func(c *Config) { c.Schedule = Schedule{Kind: "linear", Steps: netSteps} })
	losses := n.run(t, mustNew(t, cfg), netSteps)
	if !(last(losses) < 0.6*losses[0]) {
		t.Fatalf("the base did not train: loss from %.4f to %.4f", losses[0], last(losses))
	}
	t.Logf("base: loss %.4f to %.4f", losses[0], last(losses))
	trainedBase = map[string]*mat.Dense{"w1": get(t, n.store, "/w1"), "w2": get(t, n.store, "/w2")}
	return trainedBase
}
