// Package ir is the recorded form of a computation: what the backend's builder writes and the compiler reads.
//
// A Function is a list of nodes in the order in which they were built; a node's inputs come before it. Nodes are never changed
// after they were recorded: passes build new ones. The package knows shapes and operations, not how anything is computed.
package ir

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Operations that only the recorded form has.
const (
	// OpSelect is one output of an operation with several: its only input, and SelectAttrs.
	OpSelect = compute.OpType(10_000) + iota
	// OpCapture stands, in a closure, for a value of the function around it: CaptureAttrs.
	OpCapture
)

// Function is a recorded function or closure.
type Function struct {
	Name     string // "" for closures
	Parent   *Function
	Nodes    []*Node // all, in the order in which they were recorded
	Params   []*Node
	Captures []*Node // OpCapture nodes, one for each value used from outside
	Outputs  []*Node
}

// Node is an operation. One with several outputs has Shapes for all of them and is used only through OpSelect nodes.
type Node struct {
	ID     int // its place in Function.Nodes
	Op     compute.OpType
	Inputs []*Node
	Shapes []shapes.Shape
	Attrs  any // one of the Attrs types below, by Op; nil where the operation has none

	// Replay builds the operation in a function of another backend, with that backend's values for Inputs, and returns its
	// outputs (several for nodes with several). Nil for parameters and captures, and for OpSelect.
	Replay func(f compute.Function, inputs []compute.Value) ([]compute.Value, error)
}

// Shape is the shape of a node with one output.
func (n *Node) Shape() shapes.Shape { return n.Shapes[0] }

// DType is the element type of a node with one output.
func (n *Node) DType() dtypes.DType { return n.Shapes[0].DType }

// Dims are the dimensions of a node with one output.
func (n *Node) Dims() []int { return n.Shapes[0].Dimensions }

// The attributes of operations, named and meant as in compute.StandardOps.
type (
	// ParameterAttrs: the place among the function's parameters.
	ParameterAttrs struct {
		Name  string
		Index int
	}
	// ConstantAttrs: a slice of the Go type of the node's dtype, row-major; never written to.
	ConstantAttrs struct{ Flat any }
	// SelectAttrs: which output of the input.
	SelectAttrs struct{ Output int }
	// CaptureAttrs: the node of the function around it.
	CaptureAttrs struct{ Outer *Node }
	// AxesAttrs: of reductions (ReduceSum and so on; never empty: all axes are listed) and Reverse.
	AxesAttrs struct{ Axes []int }
	// TransposeAttrs: axis i of the output is axis Permutation[i] of the input.
	TransposeAttrs struct{ Permutation []int }
	// BroadcastAttrs: axis i of the input is axis Axes[i] of the output.
	BroadcastAttrs struct{ Axes []int }
	// IotaAttrs: the axis along which values grow.
	IotaAttrs struct{ Axis int }
	// ArgMinMaxAttrs: the reduced axis.
	ArgMinMaxAttrs struct {
		Axis  int
		IsMin bool
	}
	// ConcatenateAttrs: the joined axis.
	ConcatenateAttrs struct{ Axis int }
	// SliceAttrs: one entry an axis.
	SliceAttrs struct{ Starts, Limits, Strides []int }
	// PadAttrs: one entry an axis; the second input is the fill value. Start and End may be negative.
	PadAttrs struct{ Axes []compute.PadAxis }
	// DynamicSliceAttrs: inputs are the operand and one scalar start an axis.
	DynamicSliceAttrs struct{ Sizes []int }
	// DotGeneralAttrs: output axes are batch, left rest, right rest.
	DotGeneralAttrs struct {
		LeftContracting, LeftBatch, RightContracting, RightBatch []int
		Config                                                   compute.DotGeneralConfig
	}
	// GatherAttrs: as StandardOps.Gather.
	GatherAttrs struct {
		IndexVectorAxis                                                 int
		OffsetOutputAxes, CollapsedSliceAxes, StartIndexMap, SliceSizes []int
		IndicesAreSorted                                                bool
	}
	// ScatterAttrs: as StandardOps.ScatterSum, Max and Min; inputs are operand, indices and updates.
	ScatterAttrs struct {
		IndexVectorAxis                                                int
		UpdateWindowAxes, InsertedWindowAxes, ScatterAxesToOperandAxes []int
		IndicesAreSorted, UniqueIndices                                bool
	}
	// AttentionAttrs: of FusedScaledDotProductAttention and its VJP. Inputs are query, key, value and then, where set, the mask,
	// the bias and the two lengths of Config; for the VJP then the output, the states and the adjoint of the output. The
	// values inside Config are not used: HasMask, HasBias, HasLengths say which inputs there are.
	AttentionAttrs struct {
		Layout                       compute.AttentionAxesLayout
		Scale                        float64
		Causal                       bool
		HasMask, HasBias, HasLengths bool
	}
	// SoftmaxAttrs: of FusedSoftmax.
	SoftmaxAttrs struct{ Axis int }
	// WhileAttrs: Cond takes the state and gives one bool scalar, Body takes the state and gives the next. Inputs are the
	// initial state, then the values captured by Cond, then those captured by Body (each in the order of Captures).
	WhileAttrs struct{ Cond, Body *Function }
	// IfAttrs: inputs are the predicate, then the values captured by Then, then those captured by Else.
	IfAttrs struct{ Then, Else *Function }
	// CallAttrs: inputs are the arguments. A called function captures nothing.
	CallAttrs struct{ Function *Function }
	// SortAttrs: inputs are the operands, then the values captured by Comparator. Its parameters are pairs of scalars, left and
	// right of the first operand, then of the second, and so on; it says whether left comes first.
	SortAttrs struct {
		Comparator *Function
		Axis       int
		Stable     bool
	}
	// GeluAttrs: of FusedGelu, by erf or by tanh.
	GeluAttrs struct{ Exact bool }
	// LayerNormAttrs: of FusedLayerNorm; inputs are the operand and then, where there are any, gamma and beta.
	LayerNormAttrs struct {
		Axes              []int
		Epsilon           float64
		HasGamma, HasBeta bool
	}
	// DenseAttrs: of FusedDense; inputs are the operand, the weight and, where there is any, the bias.
	DenseAttrs struct {
		Config  compute.DenseConfig
		HasBias bool
	}
	// RawAttrs: the arguments of an operation that has no type of its own here, printed. Nodes with the same operation, inputs,
	// shapes and Arguments are the same.
	RawAttrs struct{ Arguments string }
)
