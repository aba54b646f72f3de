package vector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// guard is the value around every buffer of a test.
const guard = 0xdeadbeef

// margin is the number of guard words on each side.
const margin = 24

// buffer is n words that start shift bytes after an aligned address, between guards.
type buffer struct {
	words []uint32
	n     int
	shift int
	all   []byte
}

func newBuffer(n, shift int) *buffer {
	b := &buffer{n: n, shift: shift, words: make([]uint32, n+2*margin+1)}
	b.all = unsafe.Slice((*byte)(unsafe.Pointer(&b.words[0])), 4*len(b.words))
	for i := range b.words {
		b.words[i] = guard
	}
	return b
}

func (b *buffer) pointer() unsafe.Pointer { return unsafe.Pointer(&b.all[4*margin+b.shift]) }

func (b *buffer) put(v []uint32) {
	for i, x := range v {
		*(*uint32)(unsafe.Add(b.pointer(), 4*i)) = x
	}
}

func (b *buffer) get() []uint32 {
	out := make([]uint32, b.n)
	for i := range out {
		out[i] = *(*uint32)(unsafe.Add(b.pointer(), 4*i))
	}
	return out
}

// intact is "" if the guards are as they were.
func (b *buffer) intact() string {
	for i, v := range b.all {
		if inside := i - 4*margin - b.shift; inside >= 0 && inside < 4*b.n {
			continue
		}
		if want := byte(uint32(guard) >> (8 * (i % 4))); v != want {
			return fmt.Sprintf("byte %d outside of %d words was written", i-4*margin-b.shift, b.n)
		}
	}
	return ""
}

// special are bit patterns where operations differ from the usual, as floats and as integers.
var special = []uint32{0, 1 << 31, 1, 0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x3f800000, 0xbf800000, 0x3f000000, 0xbf000000,
	0x3fc00000, 0x40200000, 0xc0200000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x4b000001, 0x4f000000,
	0xcf000000, 0x4effffff, 0x4f800000, 0x4f7fffff, 0x7fffffff, 0xffffffff, 31, 32, 33, 0xffffffe0, 2, 3, 0xfffffffe, 0x3effffff}

// words are n random lanes: a third special, a third floats of moderate size, a third any bits.
func words(r *rand.Rand, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		switch r.IntN(3) {
		case 0:
			out[i] = special[r.IntN(len(special))]
		case 1:
			out[i] = math.Float32bits(float32(r.NormFloat64() * 4))
		default:
			out[i] = r.Uint32()
		}
	}
	return out
}

func maskWords(r *rand.Rand, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = -(r.Uint32() & 1)
	}
	return out
}

// floatResult says that an instruction gives floats, of which one NaN is as good as another.
func floatResult(op Op) bool {
	return op <= Cos || op == FloatFromInt || op == FloatFromUint
}

// same compares lanes bit for bit, except that all NaN are the same where floats is set.
func same(got, want []uint32, floats bool) string {
	nan := func(v uint32) bool { return v&0x7fffffff > 0x7f800000 }
	for i := range want {
		if got[i] != want[i] && !(floats && nan(got[i]) && nan(want[i])) {
			return fmt.Sprintf("lane %d of %d is %08x (%g), not %08x (%g)", i, len(want),
				got[i], math.Float32frombits(got[i]), want[i], math.Float32frombits(want[i]))
		}
	}
	return ""
}

// approximated says that levels differ on an instruction.
func approximated(op Op) bool {
	for _, f := range functions {
		if f.op == op {
			return true
		}
	}
	return false
}

// kernelCase is a kernel with sources of words, run at some level.
type kernelCase struct {
	name    string
	floats  bool
	sources int
	single  [3]bool // sources of one word
	masks   bool    // the first source is a mask
	run     func(k *Kernels, dst unsafe.Pointer, src [3]unsafe.Pointer, n int)
}

func elementwiseCases() (all []kernelCase) {
	for op := range Count {
		if approximated(op) {
			continue
		}
		floats := floatResult(op)
		if For(feature.Generic).Unary[op] != nil {
			all = append(all, kernelCase{op.String(), floats, 1, [3]bool{}, false,
				func(k *Kernels, dst unsafe.Pointer, s [3]unsafe.Pointer, n int) { k.Unary[op](dst, s[0], n) }})
			continue
		}
		for i, pick := range []func(k *Kernels) BinaryFunc{func(k *Kernels) BinaryFunc { return k.VV[op] },
			func(k *Kernels) BinaryFunc { return k.VS[op] }, func(k *Kernels) BinaryFunc { return k.SV[op] }} {
			all = append(all, kernelCase{op.String() + []string{" VV", " VS", " SV"}[i], floats, 2, [3]bool{i == 2, i == 1}, false,
				func(k *Kernels, dst unsafe.Pointer, s [3]unsafe.Pointer, n int) { pick(k)(dst, s[0], s[1], n) }})
		}
	}
	for i, name := range []string{"Select", "SelectVS", "SelectSV", "SelectSS"} {
		all = append(all, kernelCase{name, false, 3, [3]bool{false, i >= 2, i&1 == 1}, true,
			func(k *Kernels, dst unsafe.Pointer, s [3]unsafe.Pointer, n int) {
				[]TernaryFunc{k.Select, k.SelectVS, k.SelectSV, k.SelectSS}[i](dst, s[0], s[1], s[2], n)
			}})
	}
	for i, name := range []string{"MulAddVVV", "MulAddVVS", "MulAddVSV", "MulAddVSS"} {
		all = append(all, kernelCase{name, true, 3, [3]bool{false, i >= 2, i&1 == 1}, false,
			func(k *Kernels, dst unsafe.Pointer, s [3]unsafe.Pointer, n int) {
				[]TernaryFunc{k.MulAddVVV, k.MulAddVVS, k.MulAddVSV, k.MulAddVSS}[i](dst, s[0], s[1], s[2], n)
			}})
	}
	return all
}

// TestElementwise compares every level with the generic one bit for bit: all lengths to 130 and around the unrolled loops, all
// alignments, into its own memory and in place, with guards around everything.
func TestElementwise(t *testing.T) {
	lengths := []int{255, 256, 257, 1000}
	for n := range 131 {
		lengths = append(lengths, n)
	}
	for _, c := range elementwiseCases() {
		for _, level := range levelsHere() {
			r := rand.New(rand.NewPCG(1, 2))
			for _, n := range lengths {
				if problem := c.check(For(level), r, n); problem != "" {
					t.Errorf("%s %s, %d lanes: %s", level, c.name, n, problem)
					break
				}
			}
		}
	}
}

func (c kernelCase) check(k *Kernels, r *rand.Rand, n int) string {
	var src [3]*buffer
	var given [3][]uint32
	var pointers, wanted [3]unsafe.Pointer
	shift := r.IntN(16) * 4
	for i := range c.sources {
		size := n
		if c.single[i] {
			size = 1
		}
		given[i] = words(r, size)
		if c.masks && i == 0 {
			given[i] = maskWords(r, size)
		}
		src[i] = newBuffer(size, (r.IntN(16)*4+i)%64)
		src[i].put(given[i])
		pointers[i] = src[i].pointer()
		if size > 0 {
			wanted[i] = unsafe.Pointer(&given[i][0])
		}
	}
	want := make([]uint32, n+1)
	c.run(For(feature.Generic), unsafe.Pointer(&want[0]), wanted, n)
	dst := newBuffer(n, shift)
	c.run(k, dst.pointer(), pointers, n)
	problem := same(dst.get(), want[:n], c.floats) + dst.intact()
	for i := range c.sources {
		problem += src[i].intact() + same(src[i].get(), given[i], false)
	}
	for i := range c.sources { // in place, over each source
		if problem != "" || c.single[i] {
			continue
		}
		c.run(k, src[i].pointer(), pointers, n)
		problem = same(src[i].get(), want[:n], c.floats) + src[i].intact()
		src[i].put(given[i])
	}
	return problem
}
