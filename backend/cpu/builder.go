package cpu

import (
	"errors"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/notimplemented"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/compile"
	"github.com/polargo/polar/backend/cpu/ir"
)

// Builder implements compute.Builder: it records a computation and builds it in the go backend too, its shadow.
type Builder struct {
	notimplemented.Builder
	backend  *Backend
	name     string
	main     *Function
	shadow   compute.Builder
	compiled bool

	// unshadowed names the first operation that the go backend could not build, "" if there is none: the shadow goes on, for
	// shapes, with a stand-in for that value, but must not be run.
	unshadowed string
}

var _ compute.Builder = (*Builder)(nil)

// value implements compute.Value.
type value struct {
	fn     *Function
	node   *ir.Node
	shadow compute.Value
}

func notImplemented(op compute.OpType) error {
	return fmt.Errorf("the polar backend has no %s: %w", op, compute.ErrNotImplemented)
}

func newBuilder(b *Backend, name string) *Builder {
	builder := &Builder{
		Builder: notimplemented.Builder{ErrFn: notImplemented}, backend: b, name: name, shadow: b.checker.Builder(name),
	}
	builder.main = newFunction(builder, compute.MainName, nil, builder.shadow.Main())
	return builder
}

// Name returns the name given to Backend.Builder.
func (b *Builder) Name() string { return b.name }

// Main returns the function that is compiled.
func (b *Builder) Main() compute.Function { return b.main }

// NewFunction starts a function that others can call.
func (b *Builder) NewFunction(name string) (compute.Function, error) {
	if b.compiled {
		return nil, b.over()
	}
	shadow, err := b.shadow.NewFunction(name)
	if err != nil {
		return nil, err
	}
	return newFunction(b, name, nil, shadow), nil
}

// OpShape returns the shape of a value of this builder.
func (b *Builder) OpShape(op compute.Value) (shapes.Shape, error) {
	v, err := b.own("OpShape", 0, op)
	if err != nil {
		return shapes.Invalid(), err
	}
	return v.node.Shape(), nil
}

func (b *Builder) over() error {
	return fmt.Errorf("computation %q was compiled and cannot be changed", b.name)
}

// own checks that a value is of this builder.
func (b *Builder) own(operation string, i int, op compute.Value) (*value, error) {
	v, ok := op.(*value)
	switch {
	case op == nil:
		return nil, fmt.Errorf("%s: input #%d is nil", operation, i)
	case !ok || v == nil:
		return nil, fmt.Errorf("%s: input #%d is a value of another backend (%T)", operation, i, op)
	case v.fn.builder != b:
		return nil, fmt.Errorf("%s: input #%d is a value of another computation, %q, and not of %q", operation, i, v.fn.builder.name, b.name)
	}
	return v, nil
}

// Compile returns the executable of the main function. The builder cannot be used afterwards.
func (b *Builder) Compile() (compute.Executable, error) {
	if b.compiled {
		return nil, b.over()
	}
	if !b.main.returned {
		return nil, fmt.Errorf("compile %q: Return was not called on its main function", b.name)
	}
	if err := b.backend.enter(); err != nil {
		return nil, err
	}
	defer b.backend.leave()
	b.compiled = true
	executable := &Executable{backend: b.backend, name: b.name, main: b.main.ir}
	shadow := b.shadow
	b.shadow = nil
	run, err := b.backend.compile(b.backend, b.main.ir)
	switch {
	case err == nil:
		executable.native = run
		return executable, nil
	case !errors.Is(err, compile.ErrUnsupported):
		return nil, fmt.Errorf("compile %q: %w", b.name, err)
	case b.unshadowed != "":
		return nil, fmt.Errorf("compile %q: %w, and the go backend has no %s", b.name, err, b.unshadowed)
	}
	b.backend.logOnce(err.Error())
	whole, err := newWhole(b.backend, b.main.ir, shadow)
	if err != nil {
		return nil, err
	}
	executable.whole = whole
	return executable, nil
}
