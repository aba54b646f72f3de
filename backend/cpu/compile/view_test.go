package compile

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// places lists where the elements of a layout lie, in row-major order.
func places(dims []int, l layout) []int {
	out := []int{l.offset}
	for i, d := range dims {
		var next []int
		for _, at := range out {
			for x := range d {
				next = append(next, at+x*l.strides[i])
			}
		}
		out = next
	}
	return out
}

// TestReshapedViews: a reshaped view has the same elements in the same order, whatever it is a view of.
func TestReshapedViews(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	reshaped := 0
	for range 2000 {
		dims := []int{1 + rng.IntN(3), 1 + rng.IntN(4), 1 + rng.IntN(3), 2}
		l := dense(dims)
		order := rng.Perm(len(dims))
		if rng.IntN(2) == 0 {
			order = []int{0, 1, 2, 3}
		}
		l, dims = l.transposed(order), permuted(dims, order)
		if rng.IntN(3) == 0 {
			l = l.reversed(dims, []int{rng.IntN(4)})
		}
		if rng.IntN(3) == 0 {
			l.strides[rng.IntN(4)] = 0
		}
		to := []int{dims[0] * dims[1], dims[2], dims[3]}
		if rng.IntN(2) == 0 {
			to = []int{dims[0], 1, dims[1] * dims[2] * dims[3]}
		}
		got, ok := l.reshaped(dims, to)
		if !ok {
			continue
		}
		reshaped++
		if want := places(dims, l); !slices.Equal(places(to, got), want) {
			t.Fatalf("%v %+v as %v: %+v lies at %v, want %v", dims, l, to, got, places(to, got), want)
		}
	}
	if reshaped < 500 {
		t.Errorf("only %d of 2000 views could be reshaped", reshaped)
	}
}

func permuted(dims, order []int) []int {
	out := make([]int, len(dims))
	for i, p := range order {
		out[i] = dims[p]
	}
	return out
}

// TestCollapse: collapsing keeps the places, leaves no axis of length 1 and no two axes that could be one.
func TestCollapse(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	for range 2000 {
		dims := []int{1 + rng.IntN(3), 1 + rng.IntN(3), 1 + rng.IntN(3)}
		l := dense(dims)
		if rng.IntN(2) == 0 {
			l.strides[rng.IntN(3)] = rng.IntN(4)
		}
		a := collapse(l.offset, dims, l.strides)
		if got, want := places(a.dims, layout{a.offset, a.strides}), places(dims, l); !slices.Equal(got, want) {
			t.Fatalf("%v %+v: %+v lies at %v, want %v", dims, l, a, got, want)
		}
		for i, d := range a.dims {
			if d == 1 || i > 0 && a.strides[i-1] == a.strides[i]*d {
				t.Fatalf("%v %+v: %+v is not collapsed", dims, l, a)
			}
		}
		if a.linear() != slices.Equal(places(dims, l), places([]int{size(dims)}, layout{0, []int{1}})) {
			t.Fatalf("%v %+v: linear is %v", dims, l, a.linear())
		}
	}
}

// TestSlicedViews: slices lie where the elements of the whole lie.
func TestSlicedViews(t *testing.T) {
	whole := dense([]int{4, 6})
	got := places([]int{2, 3}, whole.sliced([]int{1, 0}, []int{2, 2}))
	if want := []int{6, 8, 10, 18, 20, 22}; !slices.Equal(got, want) {
		t.Errorf("rows 1, 3 and columns 0, 2, 4 lie at %v, want %v", got, want)
	}
}
