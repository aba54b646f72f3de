package run

import (
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //lint:ignore ST1001 graph code reads as mathematics
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/data"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/optimizer"
)

// gradientScope holds a step's accumulated gradients: sums over tokens, so that how rows are split into micro-batches
// does not change the update.
const gradientScope = "/run/gradient"

// engine holds the executables of a run: gradients of a micro-batch, the optimizer's update, the loss of a batch.
type engine struct {
	backend   compute.Backend
	store     *mlmodel.Store
	decoder   *model.Decoder
	options   model.Options
	optimizer *optimizer.Optimizer
	trainable []*mlmodel.Variable

	gradient, update, evaluate *mlmodel.Exec
}

func newEngine(backend compute.Backend, store *mlmodel.Store, decoder *model.Decoder, options model.Options, opt *optimizer.Optimizer) (*engine, error) {
	e := &engine{backend: backend, store: store, decoder: decoder, options: options, optimizer: opt}
	for v := range store.IterVariables() {
		if v.Trainable {
			e.trainable = append(e.trainable, v)
		}
	}
	for _, v := range e.trainable {
		zero := tensors.FromShape(v.Shape())
		store.VariableWithValue(gradientScope+v.Path(), zero).SetTrainable(false)
	}
	var err error
	if e.gradient, err = mlmodel.NewExec(backend, store, e.gradientGraph); err != nil {
		return nil, err
	}
	if e.update, err = mlmodel.NewExec(backend, store, e.updateGraph); err != nil {
		return nil, err
	}
	e.evaluate, err = mlmodel.NewExec(backend, store, e.lossGraph)
	return e, err
}

// inputs names the nodes of a batch: tokens, targets, weights, and for packed rows segments and positions.
func inputs(nodes []*Node) model.Inputs {
	in := model.Inputs{Tokens: nodes[0], Targets: nodes[1], Weights: nodes[2]}
	if len(nodes) > 3 {
		in.Segments, in.Positions = nodes[3], nodes[4]
	}
	return in
}

// gradientGraph adds the gradient of a micro-batch's summed loss to the accumulators; it returns the sum, the weight of
// its tokens, and the squared norm of the gradients accumulated so far.
func (e *engine) gradientGraph(scope *mlmodel.Scope, nodes []*Node) []*Node {
	loss, weight := e.decoder.Loss(e.store, inputs(nodes), e.options)
	g := loss.Graph()
	values := make([]*Node, len(e.trainable))
	for i, v := range e.trainable {
		values[i] = v.NodeValue(g)
	}
	norm := ScalarZero(g, loss.DType())
	for i, gradient := range Gradient(loss, values...) {
		sum := e.accumulator(e.trainable[i])
		total := Add(sum.NodeValue(g), gradient)
		sum.SetNodeValue(total)
		norm = Add(norm, ReduceAllSum(Square(total)))
	}
	return []*Node{loss, weight, norm}
}

func (e *engine) accumulator(v *mlmodel.Variable) *mlmodel.Variable {
	return e.store.GetVariable(gradientScope + v.Path())
}

// updateGraph divides the accumulated gradients by the weight of their tokens, lets the optimizer take its step, and
// empties the accumulators.
func (e *engine) updateGraph(scope *mlmodel.Scope, weight *Node) []*Node {
	g := weight.Graph()
	pairs := make([]optimizer.VarGrad, len(e.trainable))
	for i, v := range e.trainable {
		sum := e.accumulator(v)
		pairs[i] = optimizer.VarGrad{Var: v, Grad: Div(sum.NodeValue(g), weight)}
		sum.SetNodeValue(Zeros(g, v.Shape()))
	}
	e.optimizer.Apply(scope, g, pairs)
	return []*Node{weight}
}

func (e *engine) lossGraph(_ *mlmodel.Scope, nodes []*Node) []*Node {
	loss, weight := e.decoder.Loss(e.store, inputs(nodes), e.options)
	return []*Node{loss, weight}
}

// arguments turns rows [from, to) of a batch into the tensors of the graphs.
func arguments(b data.Batch, from, to int) []any {
	cut := func(values []int32) *tensors.Tensor {
		return tensors.FromFlatDataAndDimensions(values[from*b.Length:to*b.Length], to-from, b.Length)
	}
	args := []any{cut(b.Tokens), cut(b.Targets),
		tensors.FromFlatDataAndDimensions(b.Weights[from*b.Length:to*b.Length], to-from, b.Length)}
	if b.Segments != nil {
		args = append(args, cut(b.Segments), cut(b.Positions))
	}
	return args
}

func scalars(outputs []*tensors.Tensor) []float64 {
	values := make([]float64, len(outputs))
	for i, t := range outputs {
		values[i] = float64(tensors.ToScalar[float32](t))
		_ = t.FinalizeAll()
	}
	return values
}

func call(exec *mlmodel.Exec, args ...any) ([]float64, error) {
	return graphx.Try1(func() ([]float64, error) {
		outputs, err := exec.Exec(args...)
		if err != nil {
			return nil, err
		}
		return scalars(outputs), nil
	})
}

// stepResult is the loss and gradient norm of one optimizer step, both a mean over the step's trained tokens.
type stepResult struct {
	loss, gradientNorm, weight float64
}

// step trains on a batch split into micro-batches of equal rows. A loss or gradient that is not finite is an error of
// type *NonFiniteError and leaves the weights as they were.
func (e *engine) step(b data.Batch, microBatches int) (stepResult, error) {
	rows := b.Rows / microBatches
	var loss, weight, norm float64
	for i := range microBatches {
		args := arguments(b, i*rows, (i+1)*rows)
		out, err := call(e.gradient, args...)
		if err != nil {
			return stepResult{}, err
		}
		loss, weight, norm = loss+out[0], weight+out[1], out[2]
		if !finite(out[0]) {
			return stepResult{}, &NonFiniteError{What: "loss", Where: e.locate(args)}
		}
	}
	if weight == 0 {
		return stepResult{}, fmt.Errorf("no token of the step carries loss: every label is masked")
	}
	if !finite(norm) {
		return stepResult{}, &NonFiniteError{What: "gradient", Where: e.locateGradient()}
	}
	if _, err := call(e.update, float32(weight)); err != nil {
		return stepResult{}, err
	}
	return stepResult{loss: loss / weight, gradientNorm: math.Sqrt(norm) / weight, weight: weight}, nil
}

// meanLoss returns the mean loss of batches and the number of tokens it is over.
func (e *engine) meanLoss(batches func(yield func(data.Batch, error) bool), most int, each func(done int)) (float64, int64, error) {
	var loss, weight float64
	done := 0
	for b, err := range batches {
		if err != nil {
			return 0, 0, err
		}
		if most > 0 && done == most {
			break
		}
		out, err := call(e.evaluate, arguments(b, 0, b.Rows)...)
		if err != nil {
			return 0, 0, err
		}
		loss, weight, done = loss+out[0], weight+out[1], done+1
		each(done)
	}
	if weight == 0 {
		return 0, 0, fmt.Errorf("the validation data has no trained tokens")
	}
	return loss / weight, int64(weight), nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// locate names the first place where the forward pass of a micro-batch stops being finite: a trained tensor, else the
// first traced activation.
func (e *engine) locate(args []any) string {
	for _, v := range e.trainable {
		if !finiteVariable(v) {
			return "tensor " + layerName(v.Path())
		}
	}
	var names []string
	options := e.options
	exec, err := mlmodel.NewExec(e.backend, e.store, func(_ *mlmodel.Scope, nodes []*Node) []*Node {
		var checks []*Node
		options.Trace = func(name string, x *Node) {
			names = append(names, name)
			checks = append(checks, ConvertDType(LogicalAll(IsFinite(x)), x.DType()))
		}
		loss, _ := e.decoder.Loss(e.store, inputs(nodes), options)
		return append(checks, loss)
	})
	if err != nil {
		return "an unknown layer"
	}
	defer exec.Finalize()
	out, err := call(exec, args...)
	if err != nil {
		return "an unknown layer"
	}
	for i, name := range names {
		if out[i] == 0 {
			return "layer " + name
		}
	}
	return "the loss"
}

// locateGradient names the first trained tensor whose accumulated gradient is not finite.
func (e *engine) locateGradient() string {
	for _, v := range e.trainable {
		if !finiteVariable(e.accumulator(v)) {
			return "the gradient of " + layerName(v.Path())
		}
	}
	return "the gradient's norm (it overflows float32)"
}

func finiteVariable(v *mlmodel.Variable) bool {
	value, err := v.Value()
	if err != nil {
		return false
	}
	ok := true
	err = tensors.ConstFlatData(value, func(flat []float32) {
		for _, x := range flat {
			if !finite(float64(x)) {
				ok = false
				return
			}
		}
	})
	return err == nil && ok
}

// layerName turns a store path into the name a person knows from the checkpoint.
func layerName(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(path, "/adapter"), "/"), "/", ".")
}

func (e *engine) close() {
	for _, exec := range []*mlmodel.Exec{e.gradient, e.update, e.evaluate} {
		if exec != nil {
			exec.Finalize()
		}
	}
}
