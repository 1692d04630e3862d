//! Personal data is nowhere in plain text: not in the database, not in a log at TRACE, not in the
//! rejects.

use crate::harness::{Site, ended};

const CANARIES: [&str; 4] = ["Canaria", "canary", "tweety", "010-8765-4321"];

#[tokio::test]
async fn no_name_address_or_number_is_written_in_plain_text() {
    let site = Site::new().await;
    let members = "member_id,name,email,phone\n1,Canaria Bird,canary@tweety.example,010-8765-4321\n\
                   0,Canaria Bird,canary@tweety.example,010-8765-4321\n\
                   2,Canaria Bird,canary at tweety.example,010-8765-4321\n\
                   3,\"Canaria Bird,canary@tweety.example,010-8765-4321\n\
                   4,Canaria,Bird,canary@tweety.example,010-8765-4321\n\
                   Canaria,canary@tweety.example,5,010-8765-4321\n";
    let folder = site.folder("in", &[("members.csv", members)]);
    let mut texts = Vec::new();
    for _ in 0..2 {
        let mut command = site.command(&["load", folder.to_str().unwrap(), "--log", "trace"]);
        let ended = ended(command.spawn().unwrap()).with(3);
        assert!(ended.log.contains("DEBUG"), "nothing but the usual was logged");
        texts.extend([ended.out, ended.log]);
    }
    let rejects = std::fs::read_to_string(folder.join("members.csv.rejects.csv")).unwrap();
    assert_eq!(rejects.lines().count(), 5, "{rejects}");
    texts.push(rejects);

    let tables = "select quote_ident(relname) from pg_class
                  where relkind in ('r', 'm') and relnamespace = 'public'::regnamespace order by 1";
    let tables = site.rows(tables).await;
    assert!(tables.contains(&"member".to_owned()));
    for table in tables {
        texts.extend(site.rows(&format!("select t::text from {table} t")).await);
    }
    for text in &texts {
        for canary in CANARIES {
            let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
            assert!(!text.contains(canary) && !text.contains(&hex), "{canary} is in {text}");
        }
    }
}
