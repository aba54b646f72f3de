package vector

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

func TestFillRepeatTile(t *testing.T) {
	for _, level := range levelsHere() {
		k := For(level)
		r := rand.New(rand.NewPCG(9, 10))
		for cols := range 140 {
			v := words(r, 1)
			d := newBuffer(cols, r.IntN(64))
			k.Fill(d.pointer(), unsafe.Pointer(&v[0]), cols)
			for i, w := range d.get() {
				if w != v[0] {
					t.Fatalf("%s: Fill of %d, word %d is %x", level, cols, i, w)
				}
			}
			if p := d.intact(); p != "" {
				t.Fatalf("%s: Fill of %d: %s", level, cols, p)
			}
			for _, rows := range []int{0, 1, 2, 5} {
				src, many := newBuffer(rows, r.IntN(64)), newBuffer(cols, r.IntN(64))
				values, row := words(r, rows), words(r, cols)
				src.put(values)
				many.put(row)
				a, b := newBuffer(rows*cols, r.IntN(64)), newBuffer(rows*cols, r.IntN(64))
				k.Repeat(a.pointer(), src.pointer(), rows, cols)
				k.Tile(b.pointer(), many.pointer(), rows, cols)
				repeated, tiled := a.get(), b.get()
				for i := range rows * cols {
					if repeated[i] != values[i/cols] || tiled[i] != row[i%cols] {
						t.Fatalf("%s: %d x %d, word %d is %x and %x", level, rows, cols, i, repeated[i], tiled[i])
					}
				}
				if p := a.intact() + b.intact() + src.intact() + many.intact(); p != "" {
					t.Fatalf("%s, %d x %d: %s", level, rows, cols, p)
				}
			}
		}
	}
}

// TestPlanes: copies and transposes, with strides above the number of columns and negative ones.
func TestPlanes(t *testing.T) {
	sizes := []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 40, 63, 64, 65, 71, 72}
	for _, level := range levelsHere() {
		k := For(level)
		r := rand.New(rand.NewPCG(11, 12))
		for _, rows := range sizes {
			for _, cols := range sizes {
				for _, extra := range []int{0, 3} {
					for _, sign := range []int{1, -1} {
						if p := checkPlane(k, r, rows, cols, extra, sign); p != "" {
							t.Fatalf("%s, %d x %d, strides longer by %d, sign %d: %s", level, rows, cols, extra, sign, p)
						}
					}
				}
			}
		}
		if p := checkPlane(k, r, 3, longRow+5, 2, 1); p != "" {
			t.Errorf("%s, long rows: %s", level, p)
		}
	}
}

func checkPlane(k *Kernels, r *rand.Rand, rows, cols, extra, sign int) string {
	srcStride, dstStride, transposed := cols+extra, cols+2*extra, rows+extra
	src := newBuffer(rows*srcStride, r.IntN(64))
	given := words(r, rows*srcStride)
	src.put(given)
	from := src.pointer()
	if sign < 0 && rows > 0 {
		from = unsafe.Add(from, 4*(rows-1)*srcStride)
	}
	a, b := newBuffer(rows*dstStride, r.IntN(64)), newBuffer(cols*transposed, r.IntN(64))
	k.Copy2D(a.pointer(), from, rows, cols, dstStride, sign*srcStride)
	k.Transpose2D(b.pointer(), from, rows, cols, transposed, sign*srcStride)
	wantA, wantB := newBuffer(a.n, a.shift), newBuffer(b.n, b.shift)
	for i := range rows {
		for j := range cols {
			row := i
			if sign < 0 {
				row = rows - 1 - i
			}
			v := given[row*srcStride+j]
			*(*uint32)(unsafe.Add(wantA.pointer(), 4*(i*dstStride+j))) = v
			*(*uint32)(unsafe.Add(wantB.pointer(), 4*(j*transposed+i))) = v
		}
	}
	switch {
	case !bytes.Equal(a.all, wantA.all):
		return "the copy is wrong, or there is more of it"
	case !bytes.Equal(b.all, wantB.all):
		return "the transpose is wrong, or there is more of it"
	}
	return same(src.get(), given, false)
}

func TestStrided(t *testing.T) {
	for _, level := range levelsHere() {
		src := words(rand.New(rand.NewPCG(13, 14)), 1000)
		for _, stride := range []int{-7, -1, 0, 1, 2, 5} {
			for _, n := range []int{0, 1, 3, 16, 33, 70} {
				d := newBuffer(n, 4)
				For(level).Strided(d.pointer(), unsafe.Pointer(&src[500]), n, stride)
				for i, v := range d.get() {
					if v != src[500+i*stride] {
						t.Fatalf("%s: stride %d, word %d of %d is %x", level, stride, i, n, v)
					}
				}
				if p := d.intact(); p != "" {
					t.Error(p)
				}
			}
		}
	}
}

// TestNarrow: conversions to and from 2 bytes and 1 byte, of all bfloat16 and all bytes.
func TestNarrow(t *testing.T) {
	g := For(feature.Generic)
	r := rand.New(rand.NewPCG(15, 16))
	for _, level := range levelsHere() {
		k := For(level)
		for _, c := range []struct {
			name      string
			in, out   int
			kernel, g UnaryFunc
			masks     bool
		}{
			{"FloatFromBF16", 2, 4, k.FloatFromBF16, g.FloatFromBF16, false},
			{"BF16FromFloat", 4, 2, k.BF16FromFloat, g.BF16FromFloat, false},
			{"MaskFromBool", 1, 4, k.MaskFromBool, g.MaskFromBool, false},
			{"BoolFromMask", 4, 1, k.BoolFromMask, g.BoolFromMask, true},
		} {
			for _, n := range append([]int{1 << 16}, seq(131)...) {
				in, want, got := make([]byte, n*c.in+8), make([]byte, n*c.out+16), make([]byte, n*c.out+16)
				for i := range in[:n*c.in] {
					in[i] = byte(r.Uint32())
				}
				for i := range n {
					switch {
					case c.masks:
						*(*uint32)(unsafe.Pointer(&in[4*i])) = -(r.Uint32() & 1)
					case c.in == 4 && i%2 == 0:
						*(*uint32)(unsafe.Pointer(&in[4*i])) = special[r.IntN(len(special))]
					case c.in == 2 && n == 1<<16:
						*(*uint16)(unsafe.Pointer(&in[2*i])) = uint16(i)
					}
				}
				c.g(unsafe.Pointer(&want[8]), unsafe.Pointer(&in[0]), n)
				c.kernel(unsafe.Pointer(&got[8]), unsafe.Pointer(&in[0]), n)
				if !bytes.Equal(got, want) {
					t.Fatalf("%s %s of %d differs from the generic one", level, c.name, n)
				}
			}
		}
	}
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// bf16Nearest finds the nearest bfloat16 among three neighbours, for numbers.
func bf16Nearest(v float32) uint16 {
	b := uint16(math.Float32bits(v) >> 16)
	best, off := b, math.Inf(1)
	for _, c := range []uint16{b, b + 1} {
		w := float64(math.Float32frombits(uint32(c) << 16))
		if math.IsInf(w, 0) {
			w = math.Copysign(0x1p128, w)
		}
		d := math.Abs(w - float64(v))
		if d < off || d == off && c&1 == 0 {
			best, off = c, d
		}
	}
	return best
}

func TestBF16Rounding(t *testing.T) {
	for i := uint32(0); i < 1<<22; i++ {
		v := math.Float32frombits(i * 1021)
		got := bf16(math.Float32bits(v))
		if v != v {
			if w := math.Float32frombits(uint32(got) << 16); w == w {
				t.Fatalf("NaN %x becomes the number %g", math.Float32bits(v), w)
			}
		} else if want := bf16Nearest(v); got != want {
			t.Fatalf("%g becomes %04x, not %04x", v, got, want)
		}
	}
}

func TestCopyStrided(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for _, level := range levelsHere() {
		for trial := range 1500 {
			if p := strideTrial(For(level), r); p != "" {
				t.Fatalf("%s, trial %d: %s", level, trial, p)
			}
		}
	}
}

// strideTrial copies an array of random rank between layouts with permuted, reversed, stretched and (in the source) broadcast
// axes, and compares with an odometer.
func strideTrial(k *Kernels, r *rand.Rand) string {
	rank, elem := r.IntN(5), []int{1, 2, 4, 4, 8, 16, 3}[r.IntN(7)]
	dims := make([]int, rank)
	total := 1
	for i := range dims {
		dims[i] = 1 + r.IntN([]int{3, 20, 40, 6}[r.IntN(4)])
		if r.IntN(40) == 0 {
			dims[i] = 0
		}
		if total*dims[i] > 20000 {
			dims[i] = 2
		}
		total *= dims[i]
	}
	layout := func(broadcast bool) ([]int, int) {
		strides, step := make([]int, rank), 1
		for _, axis := range r.Perm(rank) {
			if broadcast && r.IntN(5) == 0 {
				continue
			}
			strides[axis] = step
			step = step*max(dims[axis], 1) + []int{0, 0, 0, 5}[r.IntN(4)]
			if r.IntN(4) == 0 {
				strides[axis] = -strides[axis]
			}
		}
		return strides, step
	}
	dstStrides, dstSize := layout(false)
	srcStrides, srcSize := layout(true)
	dst, src := make([]byte, dstSize*elem), make([]byte, srcSize*elem)
	for i := range src {
		src[i] = byte(r.Uint32())
	}
	want := append([]byte{}, dst...)
	d0, _ := span(dims, dstStrides)
	s0, _ := span(dims, srcStrides)
	index := make([]int, rank)
	for range total {
		d, s := d0, s0
		for i, x := range index {
			d += x * dstStrides[i]
			s += x * srcStrides[i]
		}
		copy(want[d*elem:(d+1)*elem], src[s*elem:])
		for i := rank - 1; i >= 0; i-- {
			if index[i]++; index[i] < dims[i] {
				break
			}
			index[i] = 0
		}
	}
	k.CopyStrided(dst, src, elem, dims, dstStrides, srcStrides)
	if !bytes.Equal(dst, want) {
		return fmt.Sprintf("dims %v, %d bytes, strides %v from %v", dims, elem, dstStrides, srcStrides)
	}
	return ""
}

func TestCopyStridedTooShort(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a copy beyond the end of the source went through")
		}
	}()
	For(feature.Generic).CopyStrided(make([]byte, 24), make([]byte, 23), 4, []int{2, 3}, []int{3, 1}, []int{1, 2})
}
