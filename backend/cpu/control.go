package cpu

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Operations that run other functions, each as compute.Function has it.

// closure checks that a function is a finished closure of f.
func (f *Function) closure(operation, role string, fn compute.Function) (*Function, error) {
	c, ok := fn.(*Function)
	switch {
	case !ok || c == nil:
		return nil, fmt.Errorf("%s: %s must be a closure of the polar backend, got %T", operation, role, fn)
	case c.parent != f:
		return nil, fmt.Errorf("%s: %s must be a closure of the function that uses it", operation, role)
	case !c.returned:
		return nil, fmt.Errorf("%s: %s must have returned", operation, role)
	}
	return c, nil
}

// replayClosure builds a recorded closure in g, with the values for what it captures, which it takes off inputs.
func replayClosure(g compute.Function, fn *ir.Function, inputs []compute.Value) (closure compute.Function, rest []compute.Value, err error) {
	if closure, err = g.Closure(); err != nil {
		return nil, nil, err
	}
	n := len(fn.Captures)
	return closure, inputs[n:], replayFunction(closure, fn, inputs[:n])
}

// replayTwo builds two closures and calls use with them.
func replayTwo(g compute.Function, first, second *ir.Function, inputs []compute.Value,
	use func(first, second compute.Function) ([]compute.Value, error)) ([]compute.Value, error) {
	a, inputs, err := replayClosure(g, first, inputs)
	if err != nil {
		return nil, err
	}
	b, _, err := replayClosure(g, second, inputs)
	if err != nil {
		return nil, err
	}
	return use(a, b)
}

// While records the operation of that name.
func (f *Function) While(cond, body compute.Function, state ...compute.Value) ([]compute.Value, error) {
	c, err := f.closure("While", "cond", cond)
	if err != nil {
		return nil, err
	}
	b, err := f.closure("While", "body", body)
	if err != nil {
		return nil, err
	}
	n := len(state)
	return f.record(operation{
		op: compute.OpTypeWhile, attrs: ir.WhileAttrs{Cond: c.ir, Body: b.ir}, inputs: state, closures: []*Function{c, b},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.While(c.shadow, b.shadow, in...)
		},
		replay: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return replayTwo(g, c.ir, b.ir, in[n:], func(cond, body compute.Function) ([]compute.Value, error) {
				return g.While(cond, body, in[:n]...)
			})
		},
	})
}

// If records the operation of that name.
func (f *Function) If(pred compute.Value, onTrue, onFalse compute.Function) ([]compute.Value, error) {
	yes, err := f.closure("If", "trueBranch", onTrue)
	if err != nil {
		return nil, err
	}
	no, err := f.closure("If", "falseBranch", onFalse)
	if err != nil {
		return nil, err
	}
	return f.record(operation{
		op: compute.OpTypeIf, attrs: ir.IfAttrs{Then: yes.ir, Else: no.ir}, inputs: []compute.Value{pred}, closures: []*Function{yes, no},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.If(in[0], yes.shadow, no.shadow)
		},
		replay: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return replayTwo(g, yes.ir, no.ir, in[1:], func(yes, no compute.Function) ([]compute.Value, error) {
				return g.If(in[0], yes, no)
			})
		},
	})
}

// Sort records the operation of that name. As in the go backend, the comparator takes a pair of scalars for each operand: left
// and right of the first, then of the second.
func (f *Function) Sort(comparator compute.Function, axis int, stable bool, inputs ...compute.Value) ([]compute.Value, error) {
	c, err := f.closure("Sort", "comparator", comparator)
	if err != nil {
		return nil, err
	}
	if len(inputs) > 0 && axis < 0 {
		axis += f.shapeOf(inputs[0]).Rank()
	}
	n := len(inputs)
	return f.record(operation{
		op: compute.OpTypeSort, attrs: ir.SortAttrs{Comparator: c.ir, Axis: axis, Stable: stable}, inputs: inputs, closures: []*Function{c},
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.Sort(c.shadow, axis, stable, in...)
		},
		replay: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			comparator, _, err := replayClosure(g, c.ir, in[n:])
			if err != nil {
				return nil, err
			}
			return g.Sort(comparator, axis, stable, in[:n]...)
		},
	})
}

// Call records the call of a function made by Builder.NewFunction.
func (f *Function) Call(fn compute.Function, inputs ...compute.Value) ([]compute.Value, error) {
	called, ok := fn.(*Function)
	switch {
	case !ok || called == nil:
		return nil, fmt.Errorf("Call: want a function of the polar backend, got %T", fn)
	case called.builder != f.builder:
		return nil, fmt.Errorf("Call: function %q belongs to another computation", called.Name())
	case called.parent != nil:
		return nil, fmt.Errorf("Call: closures cannot be called")
	case !called.returned:
		return nil, fmt.Errorf("Call: function %q must have returned", called.Name())
	}
	return f.record(operation{
		op: compute.OpTypeCall, attrs: ir.CallAttrs{Function: called.ir}, inputs: inputs,
		build: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			return g.Call(called.shadow, in...)
		},
		replay: func(g compute.Function, in []compute.Value) ([]compute.Value, error) {
			copied, err := g.Builder().NewFunction(called.Name())
			if err != nil {
				return nil, err
			}
			if err := replayFunction(copied, called.ir, nil); err != nil {
				return nil, err
			}
			return g.Call(copied, in...)
		},
	})
}
