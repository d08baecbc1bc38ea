package parser

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// Statements that wrap one of the module's print what they add: text that is
// parsed again (PREPARE, views) must mean the same.

// Format implements tree.NodeFormatter.
func (n *DeleteUsing) Format(ctx *tree.FmtCtx) {
	ctx.FormatNode(n.With)
	ctx.WriteString("DELETE FROM ")
	ctx.FormatNode(n.Table)
	ctx.WriteString(" USING ")
	ctx.FormatNode(&n.Using)
	if n.Where != nil {
		ctx.WriteByte(' ')
		ctx.FormatNode(n.Where)
	}
	if len(n.OrderBy) > 0 {
		ctx.WriteByte(' ')
		ctx.FormatNode(&n.OrderBy)
	}
	if n.Limit != nil {
		ctx.WriteByte(' ')
		ctx.FormatNode(n.Limit)
	}
	if tree.HasReturningClause(n.Returning) {
		ctx.WriteByte(' ')
		ctx.FormatNode(n.Returning)
	}
}

func (n *DeleteUsing) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *InsertOverriding) Format(ctx *tree.FmtCtx) {
	who := "USER"
	if n.System {
		who = "SYSTEM"
	}
	head := *n.Insert
	ctx.FormatNode(head.With)
	ctx.WriteString("INSERT INTO ")
	ctx.FormatNode(head.Table)
	if head.Columns != nil {
		ctx.WriteString(" (")
		ctx.FormatNode(&head.Columns)
		ctx.WriteByte(')')
	}
	ctx.WriteString(" OVERRIDING " + who + " VALUE")
	if head.DefaultValues() {
		ctx.WriteString(" DEFAULT VALUES")
	} else {
		ctx.WriteByte(' ')
		ctx.FormatNode(head.Rows)
	}
	if oc := head.OnConflict; oc != nil {
		ctx.WriteString(" ON CONFLICT")
		if len(oc.Columns) > 0 {
			ctx.WriteString(" (")
			ctx.FormatNode(&oc.Columns)
			ctx.WriteByte(')')
		}
		if oc.DoNothing {
			ctx.WriteString(" DO NOTHING")
		} else {
			ctx.WriteString(" DO UPDATE SET ")
			ctx.FormatNode(&oc.Exprs)
			if oc.Where != nil {
				ctx.WriteByte(' ')
				ctx.FormatNode(oc.Where)
			}
		}
	}
	if tree.HasReturningClause(head.Returning) {
		ctx.WriteByte(' ')
		ctx.FormatNode(head.Returning)
	}
}

func (n *InsertOverriding) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *CreateIndex) Format(ctx *tree.FmtCtx) {
	s := tree.AsString(n.CreateIndex)
	for i, e := range n.Exprs {
		if e != nil {
			name := n.Columns[i].Column
			s = strings.Replace(s, name.String(), "("+tree.AsString(e)+")", 1)
		}
	}
	ctx.WriteString(s)
	if n.Predicate != nil {
		ctx.WriteString(" WHERE ")
		ctx.FormatNode(n.Predicate)
	}
}

func (n *CreateIndex) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *CreateView) Format(ctx *tree.FmtCtx) {
	s := strings.TrimPrefix(tree.AsString(n.CreateView), "CREATE ")
	ctx.WriteString("CREATE ")
	if n.Replace {
		ctx.WriteString("OR REPLACE ")
	}
	if n.Materialized {
		ctx.WriteString("MATERIALIZED ")
	}
	ctx.WriteString(s)
	if n.NoData {
		ctx.WriteString(" WITH NO DATA")
	}
}

func (n *CreateView) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *CreateTable) Format(ctx *tree.FmtCtx) {
	ctx.FormatNode(n.CreateTable)
	if n.NoData {
		ctx.WriteString(" WITH NO DATA")
	}
	if l := n.Locality; l != nil {
		ctx.WriteString(" LOCALITY ")
		l.Format(ctx)
	}
}

func (n *CreateTable) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (l *Locality) Format(ctx *tree.FmtCtx) {
	switch {
	case l.Global:
		ctx.WriteString("GLOBAL")
	case l.RegionalByRow:
		ctx.WriteString("REGIONAL BY ROW")
		if l.As != "" {
			ctx.WriteString(" AS ")
			ctx.FormatNode(&l.As)
		}
	case l.Region != "":
		ctx.WriteString("REGIONAL BY TABLE IN ")
		ctx.FormatNode(&l.Region)
	default:
		ctx.WriteString("REGIONAL BY TABLE IN PRIMARY REGION")
	}
}

// Format implements tree.NodeFormatter.
func (n *Truncate) Format(ctx *tree.FmtCtx) {
	s := tree.AsString(n.Truncate)
	behavior := ""
	if b := n.DropBehavior; b != tree.DropDefault {
		behavior = " " + b.String()
		s = strings.TrimSuffix(s, behavior)
	}
	ctx.WriteString(s + " RESTART IDENTITY" + behavior)
}

func (n *Truncate) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *CreateDatabase) Format(ctx *tree.FmtCtx) {
	ctx.FormatNode(n.CreateDatabase)
	if n.Owner != "" {
		ctx.WriteString(" OWNER = ")
		ctx.FormatName(n.Owner)
	}
	if n.PrimaryRegion != "" {
		ctx.WriteString(" PRIMARY REGION ")
		ctx.FormatNode(&n.PrimaryRegion)
	}
	if len(n.Regions) > 0 {
		ctx.WriteString(" REGIONS = ")
		ctx.FormatNode(&n.Regions)
	}
	if n.SurvivalGoal != "" {
		ctx.WriteString(" SURVIVE " + n.SurvivalGoal + " FAILURE")
	}
	if n.Placement != "" {
		ctx.WriteString(" PLACEMENT " + n.Placement)
	}
}

func (n *CreateDatabase) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *SetLocal) Format(ctx *tree.FmtCtx) {
	ctx.WriteString("SET LOCAL " + strings.TrimPrefix(tree.AsString(n.SetVar), "SET "))
}

func (n *SetLocal) String() string { return tree.AsString(n) }
