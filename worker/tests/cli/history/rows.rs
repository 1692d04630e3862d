//! What a sender delivers: the lines of one folder, and the folder's files.

use jiff::Timestamp;
use jiff::civil::Date;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct MemberLine {
    pub(super) id: i64,
    pub(super) name: String,
}

/// A subscription to a plan, or a grant of a discount.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DatedLine {
    pub(super) member: i64,
    pub(super) code: String,
    pub(super) from: Date,
    pub(super) to: Option<Date>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct AdjustmentLine {
    pub(super) id: i64,
    pub(super) member: i64,
    pub(super) month: String,
    pub(super) code: String,
    pub(super) amount: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct UsageLine {
    pub(super) id: String,
    pub(super) member: i64,
    pub(super) kind: String,
    pub(super) quantity: i64,
    pub(super) started_at: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) enum Line {
    Member(MemberLine),
    Subscription(DatedLine),
    Grant(DatedLine),
    Adjustment(AdjustmentLine),
    Usage(UsageLine),
}

/// The lines of a folder, in the order of the files.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) source: &'static str,
    pub(super) members: Vec<MemberLine>,
    pub(super) subscriptions: Vec<DatedLine>,
    pub(super) grants: Vec<DatedLine>,
    pub(super) adjustments: Vec<AdjustmentLine>,
    pub(super) usage: Vec<UsageLine>,
}

impl Rows {
    pub(super) fn of(source: &'static str) -> Self {
        Self {
            source,
            members: Vec::new(),
            subscriptions: Vec::new(),
            grants: Vec::new(),
            adjustments: Vec::new(),
            usage: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, line: Line) {
        match line {
            Line::Member(line) => self.members.push(line),
            Line::Subscription(line) => self.subscriptions.push(line),
            Line::Grant(line) => self.grants.push(line),
            Line::Adjustment(line) => self.adjustments.push(line),
            Line::Usage(line) => self.usage.push(line),
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        lines.extend(self.members.iter().cloned().map(Line::Member));
        lines.extend(self.subscriptions.iter().cloned().map(Line::Subscription));
        lines.extend(self.grants.iter().cloned().map(Line::Grant));
        lines.extend(self.adjustments.iter().cloned().map(Line::Adjustment));
        lines.extend(self.usage.iter().cloned().map(Line::Usage));
        lines
    }

    /// The files of the folder, by name. A file without lines is absent.
    pub(super) fn files(&self) -> Vec<(&'static str, String)> {
        let dated = |line: &DatedLine| {
            let to = line.to.map_or_else(String::new, |to| to.to_string());
            format!("{},{},{},{to}", line.member, line.code, line.from)
        };
        let files = [
            file("members.csv", "member_id,name,email,phone", &self.members, |line| {
                format!("{},{},member-{}@example.com,", line.id, line.name, line.id)
            }),
            file("subscriptions.csv", "member_id,plan_code,from,to", &self.subscriptions, dated),
            file("grants.csv", "member_id,discount_code,from,to", &self.grants, dated),
            file(
                "adjustments.csv",
                "adjustment_id,member_id,month,code,amount,reason",
                &self.adjustments,
                |line| {
                    let AdjustmentLine { id, member, month, code, amount } = line;
                    format!("{id},{member},{month},{code},{amount},generated")
                },
            ),
            file("usage.csv", "usage_id,member_id,kind,quantity,started_at", &self.usage, |line| {
                let UsageLine { id, member, kind, quantity, started_at } = line;
                format!("{id},{member},{kind},{quantity},{started_at}")
            }),
        ];
        let manifest = ("manifest.yaml", format!("source: {}\n", self.source));
        files.into_iter().flatten().chain([manifest]).collect()
    }
}

fn file<T>(
    name: &'static str,
    header: &str,
    lines: &[T],
    text: impl Fn(&T) -> String,
) -> Option<(&'static str, String)> {
    let body: String = lines.iter().map(|line| text(line) + "\n").collect();
    (!body.is_empty()).then(|| (name, format!("{header}\n{body}")))
}
