package vjp

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/graphx"
)

// TestTimes compares product and gradients with autodiff's, for both axes of w, where either operand of the gradient is the
// narrower one and where they are equally wide, and for x of any rank.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		x, w []int
		axis int
	}{
		{[]int{6, 3}, []int{5, 3}, 1},
		{[]int{6, 5}, []int{3, 5}, 1},
		{[]int{6, 4}, []int{4, 4}, 1},
		{[]int{6, 3}, []int{3, 5}, 0},
		{[]int{6, 5}, []int{5, 3}, 0},
		{[]int{2, 3, 4}, []int{5, 4}, 1},
		{[]int{2, 1, 3, 4}, []int{4, 2}, 0},
		{[]int{4}, []int{5, 4}, 1},
		{[]int{1, 1}, []int{1, 1}, 0},
	} {
		name := fmt.Sprintf("%v times %v over axis %d", c.x, c.w, c.axis)
		in := randoms(c.x, c.w)
		got := valueAndGradients(t, in, func(x []*Node) *Node { return Times(x[0], x[1], c.axis) })
		want := valueAndGradients(t, in, func(x []*Node) *Node {
			return DotGeneral(x[0], []int{len(c.x) - 1}, nil, x[1], []int{c.axis}, nil)
		})
		for i, what := range []string{"value", "gradient of x", "gradient of w"} {
			check.Close(t, name+": "+what, got[i], want[i], tol)
		}
	}
}

// TestTimesRefuses what does not fit.
func TestTimesRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		x, w []int
		axis int
	}{
		"width":     {[]int{6, 3}, []int{5, 4}, 1},
		"axis":      {[]int{6, 3}, []int{5, 3}, 2},
		"rank of w": {[]int{6, 3}, []int{2, 5, 3}, 1},
		"scalar":    {nil, []int{5, 3}, 1},
	} {
		_, x := newGraph(t, c.x, c.w)
		err := graphx.Try(func() error { Times(x[0], x[1], c.axis); return nil })
		if err == nil || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}
