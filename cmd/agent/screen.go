package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen prints for people. On a terminal nothing is wider than its window: long lines and long cells of a table go on in
// the next line, so that nothing is lost. A file or a pipe gets whole lines, for grep and awk.
type screen struct {
	io.Writer
	width int // columns of the terminal; 0 for anything else
}

// screenFile is standard output as a file, if it is one.
func (g *global) screenFile() (*os.File, bool) {
	to := g.stdout
	if o, ok := to.(*output); ok {
		to = o.Writer
	}
	file, ok := to.(*os.File)
	return file, ok
}

// people is standard output as a screen. The window is asked once: no command prints for so long that a resize matters.
func (g *global) people() screen {
	s := screen{Writer: g.stdout}
	if file, ok := g.screenFile(); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			s.width = width
		}
	}
	return s
}

// line prints text; what does not fit goes on below, behind the indent. Whoever reads output that cannot be written is gone.
func (s screen) line(indent int, format string, args ...any) {
	for text := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintln(s, s.wrapped(indent, strings.TrimRight(text, "\n")))
	}
}

// wrapped is a line of text as lines that fit.
func (s screen) wrapped(indent int, text string) string {
	if indent >= s.width {
		indent = 0
	}
	return strings.Join(wrap(text, s.width, indent), "\n"+strings.Repeat(" ", indent))
}

// wrap cuts text into parts of at most width columns, each but the first with room for an indent, at a space where there is
// one. The first indent columns are a key or empty: no place to cut at.
func wrap(text string, width, indent int) (parts []string) {
	if width <= 0 {
		return []string{text}
	}
	left := []rune(text)
	for room, from := width, indent; len(left) > room; room, from = width-indent, 0 {
		at := room // a word that is wider than the window is broken
		for i := room; i > from; i-- {
			if left[i] == ' ' {
				at = i
				break
			}
		}
		parts = append(parts, strings.TrimRight(string(left[:at]), " "))
		left = []rune(strings.TrimLeft(string(left[at:]), " "))
	}
	return append(parts, string(left))
}

const (
	columnGap = 2 // spaces between the columns of a table
	leastCell = 6 // columns that a cell keeps however narrow the window is
)

// table prints rows, the first of which is the head, behind the indent. In a narrow window the widest column gives way first;
// names are broken only when nothing else is left, since they are there to be copied.
func (s screen) table(indent int, rows [][]string) {
	widths, words := make([]int, len(rows[0])), make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			for _, word := range strings.Fields(cell) {
				words[i] = max(words[i], utf8.RuneCountInString(word), leastCell)
			}
		}
	}
	if s.width > 0 {
		narrow(widths, words, s.width-indent)
		words[len(words)-1] = leastCell // the last column is prose, or short
		narrow(widths, words, s.width-indent)
		narrow(widths, slices.Repeat([]int{leastCell}, len(words)), s.width-indent)
	}
	for _, row := range rows {
		s.row(indent, row, widths)
	}
}

// narrow takes from the widest columns, of each down to its least, until all have room.
func narrow(widths, least []int, room int) {
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > room; total-- {
		widest := -1
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// row prints one row, in as many lines as its highest cell takes.
func (s screen) row(indent int, row []string, widths []int) {
	cells := make([][]string, len(row))
	lines := 1
	for i, cell := range row {
		cells[i] = wrap(cell, widths[i], 0)
		lines = max(lines, len(cells[i]))
	}
	for n := range lines {
		var b strings.Builder
		for i, parts := range cells {
			part := ""
			if n < len(parts) {
				part = parts[n]
			}
			fmt.Fprintf(&b, "%-*s", widths[i]+columnGap, part)
		}
		fmt.Fprintln(s, strings.TrimRight(strings.Repeat(" ", indent)+b.String(), " "))
	}
}
