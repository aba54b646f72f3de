// Command trainer shows how a GoMLX program uses one of Polar's optimizers: a small network with a dense layer and a
// frozen layer under a low-rank pair learns a function, with GoMLX's own trainer.
package main

import (
	"fmt"
	"log"
	"math"
	"math/rand/v2"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
)

const (
	in, hidden, out = 8, 32, 4
	rank            = 4
	rows, steps     = 128, 150
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	// Polar's default backend computes on the CPU and is safe to use as it is; see package backend.
	engine, err := backend.Open("")
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	store, err := newStore(rng)
	if err != nil {
		return err
	}
	opt, err := newOptimizer()
	if err != nil {
		return err
	}
	// Which rule does each variable get? A variable that was not described would be refused here, by name.
	routes, err := opt.Routes(store)
	if err != nil {
		return err
	}
	for _, r := range routes {
		fmt.Printf("%-10s %-8s %-7s -> %s\n", r.Variable, fmt.Sprint(r.Shape), r.Role, r.Rule)
	}

	// The optimizer is a GoMLX optimizer like any other. Gradient accumulation works too: trainer.AccumulateGradients(4).
	trainer := train.NewTrainer(engine, store, forward, meanSquare, opt, nil, nil)
	x, y := data(rng)
	for step := range steps {
		metrics, err := trainer.TrainStep(train.Batch{
			Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, rows, in)},
			Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, rows, out)},
		})
		if err != nil {
			return err
		}
		if step == 0 || step == steps-1 {
			fmt.Printf("step %3d: loss %.4f\n", step+1, tensors.ToScalar[float32](metrics[0]))
		}
	}
	return nil
}

// newOptimizer returns LoRA-Muon: pairs get its own rule, hidden matrices Muon's, vectors AdamW.
func newOptimizer() (*optimizer.Optimizer, error) {
	cfg, err := optimizer.Default("lora-muon")
	if err != nil {
		return nil, err
	}
	// The rate is the length of a step of W, from RMS to RMS norm, so that it carries over to other widths and ranks.
	cfg.LearningRate = 0.1
	cfg.Schedule = optimizer.Schedule{Kind: "linear", Steps: steps}
	return optimizer.New(cfg)
}

// newStore creates the variables and says what each is. Weights are fan-out x fan-in: y = W x.
func newStore(rng *rand.Rand) (*model.Store, error) {
	store := model.NewStore()
	for _, v := range []struct {
		path string
		rows int
		cols int
		spec param.Spec
	}{
		{"/w1", hidden, in, param.Spec{Role: param.Hidden, FanOut: hidden, FanIn: in}},
		{"/a", out, rank, param.Spec{Role: param.Pair, FanOut: out, FanIn: hidden, Layer: "w2", Side: param.SideA}},
		{"/b", hidden, rank, param.Spec{Role: param.Pair, FanOut: out, FanIn: hidden, Layer: "w2", Side: param.SideB}},
	} {
		if err := param.Tag(store, store.VariableWithValue(v.path, gaussian(rng, v.rows, v.cols)), v.spec); err != nil {
			return nil, err
		}
	}
	bias := store.VariableWithValue("/bias", make([]float32, out))
	if err := param.Tag(store, bias, param.Spec{Role: param.Vector}); err != nil {
		return nil, err
	}
	// The base under the pair is frozen, so nobody needs to know what it is.
	store.VariableWithValue("/w2", gaussian(rng, out, hidden)).SetTrainable(false)
	return store, nil
}

// forward builds tanh(x W1ᵀ) (W2 + A Bᵀ)ᵀ + bias, the pair as two thin products.
func forward(scope *model.Scope, x *Node) *Node {
	value := func(path string) *Node { return scope.Store().GetVariable(path).NodeValue(x) }
	timesTransposed := func(x, w *Node) *Node { return MatMul(x, Transpose(w, 0, 1)) }
	h := Tanh(timesTransposed(x, value("/w1")))
	y := Add(timesTransposed(h, value("/w2")), timesTransposed(MatMul(h, value("/b")), value("/a")))
	return Add(y, ExpandLeftToRank(value("/bias"), 2))
}

func meanSquare(labels, predictions []*Node) *Node {
	return ReduceAllMean(Square(Sub(predictions[0], labels[0])))
}

// data returns inputs and the values of a smooth function of them.
func data(rng *rand.Rand) (x, y []float32) {
	for range rows {
		sum := 0.0
		for range in {
			v := rng.NormFloat64()
			x, sum = append(x, float32(v)), sum+v
		}
		for j := range out {
			y = append(y, float32(math.Sin(sum/3+float64(j))))
		}
	}
	return x, y
}

// gaussian returns a rows x cols matrix of random numbers with rows of length about one.
func gaussian(rng *rand.Rand, rows, cols int) *tensors.Tensor {
	flat := make([]float32, rows*cols)
	for i := range flat {
		flat[i] = float32(rng.NormFloat64() / math.Sqrt(float64(cols)))
	}
	return tensors.FromFlatDataAndDimensions(flat, rows, cols)
}
