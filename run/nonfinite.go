package run

import (
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
)

// NonFiniteError stops a run whose loss, gradient or weights are NaN or infinite.
type NonFiniteError struct {
	Step           int
	What           string // "loss", "gradient", "validation loss", "weights"
	Where          string // first layer or tensor that is not finite
	LastCheckpoint string // empty when there is none
}

// Error names the step, the layer and the checkpoint to go back to.
func (e *NonFiniteError) Error() string {
	verb := "is"
	if e.What == "weights" {
		verb = "are"
	}
	return fmt.Sprintf("step %d: the %s %s not finite, first at %s; %s; start again with a lower learning rate or a warm-up", e.Step, e.What, verb, e.Where, lastGood(e.LastCheckpoint))
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// locate names the first place where the forward pass of a micro-batch stops being finite: a trained tensor, else the
// first traced activation.
func (e *engine) locate(args []any) string {
	if name := firstNonFinite(e.trainable); name != "" {
		return "tensor " + name
	}
	var names []string
	options := e.options
	options.Checkpoint = false // nothing is kept for a backward pass, and blocks can be traced
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

// locateGradient names the first trained tensor whose gradient is not finite.
func (e *engine) locateGradient(gradients []*tensors.Tensor) string {
	for i, v := range e.trainable {
		if !finiteTensor(gradients[i]) {
			return "the gradient of " + layerName(v.Path())
		}
	}
	return "the gradient's norm (it overflows float32)"
}

// firstNonFinite names the first variable that holds NaN or infinity; "" when all are finite.
func firstNonFinite(variables []*mlmodel.Variable) string {
	for _, v := range variables {
		if value, err := v.Value(); err != nil || !finiteTensor(value) {
			return layerName(v.Path())
		}
	}
	return ""
}

// finiteTensor reports whether every value of a floating-point tensor is finite; other types always are.
func finiteTensor(t *tensors.Tensor) bool {
	if t.DType() != dtypes.Float32 {
		return true
	}
	ok := true
	err := tensors.ConstFlatData(t, func(flat []float32) {
		for _, x := range flat {
			if x-x != 0 {
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
