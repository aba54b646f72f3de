// Package compile turns recorded functions into programs, in passes:
//
//   - convert (convert.go, product.go): the recorded operations become a graph in which reshapes, transpositions, broadcasts and
//     slices are views of memory, equal operations are one, products that are no more than element-wise operations or sums
//     are written as such, and what no output needs is left out;
//   - fuse (fuse.go): element-wise operations and reductions that can be one loop become one;
//   - lower (lower.go, loop.go, registers.go, nodes.go): loops and all other operations become steps, in the order in which they
//     were recorded where dependencies allow it;
//   - place (place.go): buffers get their memory.
package compile

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/program"
)

// Options are what a program is compiled for.
type Options struct {
	Level feature.Level
	BF16  bool // float32 products in bfloat16 with float32 sums
	// Foreign compiles one operation in another backend. Nil: operations that have no step are errors.
	Foreign func(n *ir.Node) (run func(inputs, outputs [][]byte) error, err error)
}

// Compile returns the program of a recorded function. Its inputs are the function's parameters, then its captures. Whatever it cannot
// compile is an error that wraps ErrUnsupported.
func Compile(f *ir.Function, options Options) (p *program.Program, err error) {
	defer func() {
		if r := recover(); r != nil { // a mistake of ours or a kernel's refusal
			p, err = nil, fmt.Errorf("%w: %v", ErrUnsupported, r)
		}
	}()
	g, err := convert(f)
	if err != nil {
		return nil, err
	}
	g.fuse()
	return g.lower(f.Name, options)
}

// flatBytes is the memory of a slice of numbers or booleans.
func flatBytes(flat any) []byte {
	v := reflect.ValueOf(flat)
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Len()*int(v.Type().Elem().Size()))
}
