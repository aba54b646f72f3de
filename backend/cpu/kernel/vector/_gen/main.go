// Command _gen writes the assembly of package vector.
package main

func main() {
	for _, wide := range []bool{true, false} {
		m := newMachine(wide)
		m.binaries()
		m.write("binary")
		m.unaries()
		m.ternaries()
		m.conversions()
		m.write("unary")
		m.functions()
		m.write("functions")
		m.rows()
		m.columns()
		m.write("reduce")
		m.moves()
		m.write("move")
	}
}
