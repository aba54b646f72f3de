package main

import (
	"fmt"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/internal/graphx"
)

// openProduct prepares product:MxKxN: x [M, K] times y [K, N], both in the backend's memory, by an executable of one
// operation. The result stays there and is given back.
func openProduct(w *work, b compute.Backend, s settings) error {
	m, k, n, err := productSizes(s.row)
	if err != nil {
		return err
	}
	w.flops = 2 * float64(m) * float64(k) * float64(n)
	var args []any
	for i, shape := range [][]int{{m, k}, {k, n}} {
		data := gaussian(uint64(i+1), 0, 1, shape[0]*shape[1])
		w.give([]string{"x", "y"}[i], shape, func() ([]float32, error) { return data, nil })
		t := tensors.FromFlatDataAndDimensions(data, shape...)
		if err := t.MaterializeOnDevice(b, true, 0); err != nil {
			return err
		}
		args = append(args, t)
	}
	exec, err := NewExec(b, func(x, y *Node) *Node { return DotGeneral(x, []int{1}, nil, y, []int{0}, nil) })
	if err != nil {
		return err
	}
	w.closers = append(w.closers, exec.Finalize)
	w.step = func() (outcome, error) {
		c := newClock()
		out, err := graphx.Try1(func() ([]*tensors.Tensor, error) { return exec.Call(args...) })
		if err != nil {
			return outcome{}, err
		}
		return c.stop(), finalize(out)
	}
	return nil
}

func productSizes(row string) (m, k, n int, err error) {
	if _, err := fmt.Sscanf(row, "product:%dx%dx%d", &m, &k, &n); err != nil || min(m, k, n) < 1 {
		return 0, 0, 0, fmt.Errorf("want product:MxKxN with positive numbers")
	}
	return m, k, n, nil
}
