package recipe

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	gomlx "github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/optimizer"
	"github.com/polargo/polar/param"
)

// layer is one weight of a network: y = W x for W [out, in], without a bias.
type layer struct {
	name    string
	out, in int
	start   start
	// rule is how it is updated: one of the keys given to network.compile.
	rule string
}

// start names a way to draw a weight.
type start string

const (
	// orthonormal is the polar factor of a Gaussian times sqrt(out/in): RMS→RMS norm 1.
	orthonormal start = "orthonormal"
	// symmetricPart is the symmetric part of an orthonormal start of a square weight: eigenvalues in [-1, 1].
	symmetricPart start = "symmetric"
	// positivePart is the nearest positive semidefinite matrix to a symmetric start: half of its eigenvalues are zero.
	positivePart start = "positive"
)

// network is a set of weights with their training step, compiled once and trained from a fresh state for each trial.
type network struct {
	layers []layer
	// forward builds the outputs [rows, classes] of x [rows, features] from the weights by name.
	forward func(weights map[string]*Node, x *Node) *Node
	loss    string // a key of losses

	store *mlmodel.Store
	// rules are the optimizers by name. They keep their state apart, by variable, and share the learning rate.
	rules                 map[string]*optimizer.Optimizer
	step, evaluate, begin *mlmodel.Exec
}

// losses are the training losses of outputs [rows, classes] against one-hot labels, means over rows.
var losses = map[string]func(outputs, labels *Node) *Node{
	"cross-entropy": func(outputs, labels *Node) *Node {
		return ReduceAllMean(Neg(ReduceSum(Mul(labels, LogSoftmax(outputs, -1)), -1)))
	},
	// The target is 1 for the class and -1 for the others.
	"square": func(outputs, labels *Node) *Node {
		return ReduceAllMean(Square(Sub(outputs, AddScalar(MulScalar(labels, 2), -1))))
	},
}

// measured is what a step or an evaluation returns.
type measured struct {
	// loss and accuracy are on the rows given first, before the update; testLoss and testAccuracy on those given second.
	loss, accuracy, testLoss, testAccuracy float64
	// moved is ‖W_{t+1} - W_t‖_F over all weights, after the retraction; 0 for an evaluation.
	moved float64
	// norms are RMS→RMS norms of the weights by layer, only for an evaluation.
	norms []float64
}

// compile prepares the executables; they are compiled at the first call, for its number of rows. rules says how layers are
// updated.
func (n *network) compile(engine compute.Backend, rules map[string]optimizer.Config) (err error) {
	n.rules = map[string]*optimizer.Optimizer{}
	for name, cfg := range rules {
		if n.rules[name], err = optimizer.New(cfg); err != nil {
			return err
		}
	}
	n.store = mlmodel.NewStore()
	for _, l := range n.layers {
		v := n.store.VariableWithValue(l.path(), tensors.FromFlatDataAndDimensions(make([]float32, l.out*l.in), l.out, l.in))
		if err := param.Tag(n.store, v, param.Spec{Role: param.Hidden, FanOut: l.out, FanIn: l.in}); err != nil {
			return err
		}
	}
	build := func(train bool) func(scope *mlmodel.Scope, inputs []*Node) []*Node {
		return func(scope *mlmodel.Scope, inputs []*Node) []*Node { return n.build(scope, inputs, train) }
	}
	if n.step, err = mlmodel.NewExec(engine, n.store, build(true)); err != nil {
		return err
	}
	if n.evaluate, err = mlmodel.NewExec(engine, n.store, build(false)); err != nil {
		return err
	}
	n.begin, err = mlmodel.NewExec(engine, n.store, func(_ *mlmodel.Scope, inputs []*Node) []*Node { return n.starts(inputs) })
	return err
}

func (l layer) path() string { return "/" + l.name }

// build is the graph of a step or an evaluation; inputs are x, labels, test x, test labels.
func (n *network) build(scope *mlmodel.Scope, inputs []*Node, train bool) []*Node {
	g := inputs[0].Graph()
	weights := map[string]*Node{}
	for _, l := range n.layers {
		weights[l.name] = n.store.GetVariable(l.path()).NodeValue(g)
	}
	loss := losses[n.loss]
	outputs, testOutputs := n.forward(weights, inputs[0]), n.forward(weights, inputs[2])
	trained := loss(outputs, inputs[1])
	results := []*Node{trained, accuracy(outputs, inputs[1]), loss(testOutputs, inputs[3]), accuracy(testOutputs, inputs[3])}
	if !train {
		for _, l := range n.layers {
			_, norm, _ := matfn.SpectralNorm(weights[l.name])
			results = append(results, MulScalar(norm, math.Sqrt(float64(l.in)/float64(l.out))))
		}
		return results
	}
	n.update(scope, weights, trained)
	total := ScalarZero(g, dtypes.Float32)
	for _, l := range n.layers {
		moved := Sub(n.store.GetVariable(l.path()).NodeValue(g), weights[l.name])
		total = Add(total, ReduceAllSum(Square(moved)))
	}
	return append(results, Sqrt(total))
}

// update builds the update of all weights from the gradients of the loss.
func (n *network) update(scope *mlmodel.Scope, weights map[string]*Node, loss *Node) {
	nodes := make([]*Node, len(n.layers))
	for i, l := range n.layers {
		nodes[i] = weights[l.name]
	}
	updates := map[string][]optimizer.VarGrad{}
	for i, grad := range Gradient(loss, nodes...) {
		l := n.layers[i]
		updates[l.rule] = append(updates[l.rule], optimizer.VarGrad{Var: n.store.GetVariable(l.path()), Grad: grad})
	}
	for _, name := range slices.Sorted(maps.Keys(updates)) {
		n.rules[name].Apply(scope, loss.Graph(), updates[name])
	}
}

// accuracy is the share of rows whose largest output is at the label.
func accuracy(outputs, labels *Node) *Node {
	right := Equal(ArgMax(outputs, -1), ArgMax(labels, -1))
	return ReduceAllMean(ConvertDType(right, dtypes.Float32))
}

// starts builds the first values of the weights from Gaussian matrices.
func (n *network) starts(gaussians []*Node) []*Node {
	out := make([]*Node, len(n.layers))
	for i, l := range n.layers {
		w := matfn.Msign(ConvertDType(gaussians[i], dtypes.Float64), matfn.WithExact())
		switch l.start {
		case symmetricPart, positivePart:
			w = MulScalar(Add(w, Transpose(w, 0, 1)), 0.5)
			if l.start == positivePart {
				w = matfn.ProjPSD(w, matfn.WithExact())
			}
		default:
			w = MulScalar(w, math.Sqrt(float64(l.out)/float64(l.in)))
		}
		out[i] = ConvertDType(w, dtypes.Float32)
	}
	return out
}

// reset draws new weights from the seed, clears the optimizer's state and sets the learning rate.
func (n *network) reset(seed int64, rate float64) error {
	rng := rand.New(rand.NewPCG(uint64(seed), 31))
	gaussians := make([]any, len(n.layers))
	for i, l := range n.layers {
		flat := make([]float32, l.out*l.in)
		for j := range flat {
			flat[j] = float32(rng.NormFloat64())
		}
		gaussians[i] = tensors.FromFlatDataAndDimensions(flat, l.out, l.in)
	}
	values, err := n.begin.Call(gaussians...)
	if err != nil {
		return err
	}
	for i, l := range n.layers {
		if err := n.store.GetVariable(l.path()).SetValue(values[i]); err != nil {
			return err
		}
	}
	for v := range n.store.IterVariables() {
		state := strings.HasPrefix(v.Path(), optimizer.Scope+"/") && !strings.HasSuffix(v.Path(), "learning_rate")
		if !state && v.Path() != "/"+gomlx.GlobalStepVariableName {
			continue
		}
		if err := v.SetValue(tensors.FromShape(v.Shape())); err != nil {
			return err
		}
	}
	for _, rule := range n.rules {
		if err := rule.SetLearningRate(n.store, rate); err != nil {
			return err
		}
	}
	return nil
}

// call runs an executable on tensors of rows and returns what it measured.
func (n *network) call(exec *mlmodel.Exec, rows [4]*tensors.Tensor) (m measured, err error) {
	out, err := exec.Call(rows[0], rows[1], rows[2], rows[3])
	if err != nil {
		return m, err
	}
	numbers := make([]float64, len(out))
	for i, t := range out {
		numbers[i] = float64(tensors.ToScalar[float32](t))
		t.FinalizeAll()
	}
	m = measured{loss: numbers[0], accuracy: numbers[1], testLoss: numbers[2], testAccuracy: numbers[3]}
	if exec == n.evaluate {
		m.norms = numbers[4:]
	} else {
		m.moved = numbers[4]
	}
	return m, nil
}

// train takes steps from a fresh state and calls after with what each measured; it stops when after returns false or ctx ends.
// It returns an evaluation of the last weights on the rows of the last step. batch gives the rows of a step.
func (n *network) train(ctx context.Context, t Trial, steps int, batch func(step int) [4]*tensors.Tensor, after func(measured) bool) (measured, error) {
	last, err := graphx.Try1(func() (measured, error) {
		if err := n.reset(t.Seed, t.Rate); err != nil {
			return measured{}, err
		}
		rows := batch(0)
		for step := range steps {
			if err := ctx.Err(); err != nil {
				return measured{}, err
			}
			rows = batch(step)
			m, err := n.call(n.step, rows)
			if err != nil {
				return measured{}, err
			}
			if !after(m) {
				break
			}
		}
		return n.call(n.evaluate, rows)
	})
	if err != nil {
		return last, fmt.Errorf("train at rate %g, seed %d: %w", t.Rate, t.Seed, err)
	}
	return last, nil
}

// close frees the executables and variables.
func (n *network) close() {
	for _, exec := range []*mlmodel.Exec{n.step, n.evaluate, n.begin} {
		if exec != nil {
			exec.Finalize()
		}
	}
	n.store.Finalize()
}

// linear is the product of the rows of x with w [out, in].
func linear(x, w *Node) *Node { return vjp.Times(x, w, 1) }

// relu is max(x, 0).
func relu(x *Node) *Node { return Max(x, ScalarZero(x.Graph(), x.DType())) }
