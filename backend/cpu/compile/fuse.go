package compile

import (
	"slices"

	"github.com/gomlx/compute"
)

// cell is a fused loop: element-wise operations on one number of elements and the reductions between them. Every value of a
// cell is computed tile by tile, and written to memory only if something outside reads it.
//
// Elements are counted in row-major order, so that reshaping is nothing. A cell with reductions sees its elements as rows of
// columns elements each: values are then full (one an element) or row values (one a row).
type cell struct {
	size    int // elements
	columns int // length of a row; 0 while it does not matter
	nodes   []*node
	roles   map[*node]role
	low     int // the least and the greatest id of nodes
	high    int
	merged  *cell // what this cell became part of
}

// role is what a node is in its cell.
type role uint8

const (
	full      role = iota // one value an element
	perRow                // one value a row
	rowSum                // a reduction of each row: a row value
	columnSum             // a reduction over the rows: known when the loop is done
	totalSum              // a reduction over everything: known when the loop is done
)

func (r role) late() bool { return r == columnSum || r == totalSum }

// maxNodes bounds a cell, and so the memory that its tiles take.
const maxNodes = 96

// maxRow is the longest row that a tile may hold: 256 KiB a value.
const maxRow = 65536

// fusible says whether a node can be part of a cell.
func fusible(n *node) bool {
	if n.isView() || n.size() == 0 {
		return false
	}
	if _, ok := n.attrs.(reduceAttrs); ok {
		return true
	}
	return n.op == opCopy && native(n.dtype) || len(n.in) > 0 && n.ir == nil && n.op != opProduct && n.op != opPartOut &&
		elementwise(n.op, n.dtype, typesOf(n.in))
}

func (c *cell) current() *cell {
	for c.merged != nil {
		c = c.merged
	}
	return c
}

// home is the cell of a node, nil for none.
func home(n *node) *cell {
	if n.cell == nil {
		return nil
	}
	n.cell = n.cell.current()
	return n.cell
}

// operand is how an element-wise node reads an input.
func operand(n *node, i int) access {
	in := n.in[i]
	return collapse(in.where.offset, in.dims, in.where.strides)
}

// columnFirst is how a reduction reads its input with the reduced axes outermost.
func columnFirst(n *node) access {
	r := n.attrs.(reduceAttrs)
	in := n.in[0]
	product, split := 1, 0
	for split < len(in.dims) && product < r.rows {
		product *= in.dims[split]
		split++
	}
	// Axes of length 1 at the border belong to either side.
	order := slices.Concat(axisRange(split, len(in.dims)-split), axisRange(0, split))
	dims := dimsOf(in, order)
	return collapse(in.where.offset, dims, in.where.transposed(order).strides)
}

// fuse puts every fusible node into a cell, growing cells along the edges of the graph.
func (g *graph) fuse() {
	for _, n := range g.nodes {
		if !fusible(n) {
			continue
		}
		own := g.newCell(n)
		for _, in := range n.in {
			producer := home(in.base)
			if producer == nil || producer == own.current() {
				continue
			}
			if together := g.merge(producer, own.current()); together != nil {
				own = together
			}
		}
	}
}

// newCell is the cell of one node.
func (g *graph) newCell(n *node) *cell {
	c := &cell{size: n.size(), nodes: []*node{n}, roles: map[*node]role{n: full}, low: n.id, high: n.id}
	if r, ok := n.attrs.(reduceAttrs); ok {
		c.size = r.rows * r.columns
		c.columns, c.roles[n] = g.reduction(n)
	}
	n.cell = c
	return c
}

// reduction chooses how a reduction runs: the length of rows and the node's role.
func (g *graph) reduction(n *node) (columns int, as role) {
	r := n.attrs.(reduceAttrs)
	rowFirst, colFirst := operand(n, 0), columnFirst(n)
	inner := func(a access) bool { k := len(a.strides); return k == 0 || a.strides[k-1] == 1 || a.strides[k-1] == 0 }
	switch {
	case r.rows == 1 && r.columns > maxRow/16:
		return 0, totalSum
	case rowFirst.linear():
		return r.columns, rowSum
	case colFirst.linear(), inner(colFirst) && !inner(rowFirst):
		return r.rows, columnSum
	}
	return r.columns, rowSum
}

// merge joins two cells of which the second reads the first, and returns the joined one; nil if they do not fit.
func (g *graph) merge(a, b *cell) *cell {
	if len(a.nodes)+len(b.nodes) > maxNodes {
		return nil
	}
	joined, ok := fit(a, b)
	if !ok || joined.columns > maxRow || g.reaches(a, b) {
		return nil
	}
	joined.low, joined.high = min(a.low, b.low), max(a.high, b.high)
	joined.nodes = slices.Concat(a.nodes, b.nodes)
	slices.SortFunc(joined.nodes, func(x, y *node) int { return x.id - y.id })
	a.merged, b.merged = joined, joined
	for _, n := range joined.nodes {
		n.cell = joined
	}
	return joined
}

// fit says whether the loops of a, which is read, and b, which reads it, can be one, and with which roles.
func fit(a, b *cell) (*cell, bool) {
	for _, shape := range shapesTogether(a, b) {
		joined := &cell{size: shape.size, columns: shape.columns, roles: map[*node]role{}}
		for n, r := range a.roles {
			joined.roles[n] = raised(r, a.size, joined)
		}
		for n, r := range b.roles {
			joined.roles[n] = raised(r, b.size, joined)
		}
		if consistent(joined) {
			return joined, true
		}
	}
	return nil, false
}

// raised is a role in a joined cell: all full values of a cell of one value a row are row values there.
func raised(r role, size int, joined *cell) role {
	if r == full && size != joined.size {
		return perRow
	}
	return r
}

// shapesTogether lists the sizes that a loop for both may have.
func shapesTogether(a, b *cell) []cell {
	var out []cell
	add := func(size, columns int) {
		if columns == 0 || size%columns == 0 {
			out = append(out, cell{size: size, columns: columns})
		}
	}
	if a.size == b.size {
		switch {
		case a.columns == b.columns || b.columns == 0:
			add(a.size, a.columns)
		case a.columns == 0:
			add(a.size, b.columns)
		}
	}
	// One is a cell of row values of the other.
	if a.columns > 1 && b.columns == 0 && b.size*a.columns == a.size && plain(b) {
		add(a.size, a.columns)
	}
	if b.columns > 1 && a.columns == 0 && a.size*b.columns == b.size && plain(a) {
		add(b.size, b.columns)
	}
	// b spreads row values of a, neither having rows yet.
	if a.columns == 0 && b.columns == 0 && b.size > a.size && a.size > 1 && b.size%a.size == 0 && plain(a) {
		add(b.size, b.size/a.size)
	}
	return out
}

// plain says whether all nodes of a cell are full.
func plain(c *cell) bool {
	for _, r := range c.roles {
		if r != full {
			return false
		}
	}
	return true
}

// consistent says whether every value that a cell's nodes read from it is there when they need it.
func consistent(c *cell) bool {
	rows := 0
	if c.columns > 0 {
		rows = c.size / c.columns
	}
	for n, as := range c.roles {
		if (as == perRow || as == rowSum) && n.size() != rows {
			return false
		}
		for i, in := range n.in {
			from, inside := c.roles[in.base]
			if !inside {
				continue
			}
			if from.late() || !readable(n, i, as, from, c, rows) {
				return false
			}
		}
	}
	return true
}

// readable says whether node n can read input i, a value of the same cell, as it is computed.
func readable(n *node, i int, as, from role, c *cell, rows int) bool {
	a := operand(n, i)
	switch as {
	case perRow:
		return from != full && a.linear() && n.in[i].size() == rows
	case rowSum, totalSum:
		return from == full && a.linear() && n.in[i].size() == c.size
	case columnSum:
		return from == full && columnFirst(n).linear() && n.in[i].size() == c.size
	}
	if from == full {
		return a.linear() && n.in[i].size() == c.size
	}
	return spreadsRows(a, rows, c.columns)
}

// spreadsRows says whether an access gives every element its row's value.
func spreadsRows(a access, rows, columns int) bool {
	if a.offset != 0 {
		return false
	}
	if rows == 1 {
		return a.constant()
	}
	return len(a.dims) == 2 && a.dims[0] == rows && a.dims[1] == columns && a.strides[0] == 1 && a.strides[1] == 0
}

// reaches says whether something outside both cells needs a and is needed by b (or the other way round), so that they cannot be
// one loop.
func (g *graph) reaches(a, b *cell) bool {
	low := min(a.low, b.low)
	seen := map[*node]bool{}
	cells := map[*cell]bool{a: true, b: true}
	var found func(n *node) bool // n, outside, leads back to a or b
	visit := func(n *node) bool {
		for _, in := range n.dependencies() {
			if found(in) {
				return true
			}
		}
		return false
	}
	found = func(n *node) bool {
		c := home(n)
		if c == a || c == b {
			return true
		}
		if c == nil {
			if n.id < low || seen[n] {
				return false
			}
			seen[n] = true
			return visit(n)
		}
		if c.high < low || cells[c] {
			return false
		}
		cells[c] = true
		return slices.ContainsFunc(c.nodes, visit)
	}
	for _, c := range []*cell{a, b} {
		for _, n := range c.nodes {
			for _, in := range n.dependencies() {
				if h := home(in); h == a || h == b {
					continue
				}
				if found(in) {
					return true
				}
			}
		}
	}
	return false
}

// dependencies are the nodes with memory that must be computed before n.
func (n *node) dependencies() []*node {
	out := make([]*node, 0, len(n.in)+len(n.after))
	for _, in := range n.in {
		out = append(out, in.base)
	}
	return append(out, n.after...)
}

// reductionOp says whether an operation is one that cells have.
func reductionOp(op compute.OpType) bool {
	return op == compute.OpTypeReduceSum || op == compute.OpTypeReduceMax || op == compute.OpTypeReduceMin
}
