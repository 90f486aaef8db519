//! The main job, shown on a real API server and a fake of Astro: `make demo`.

mod cluster;
mod show;
mod stage;
mod story;

use std::process::ExitCode;

use stage::Stage;

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> anyhow::Result<()> {
    let mut stage = Stage::set().await?;
    if let Err(error) = story::tell(&mut stage).await {
        eprintln!("{}", stage.end_of_the_log());
        return Err(error);
    }
    stage.astro.assert_contract_kept()?;
    println!("\nDone in {:.1} s.", stage.began.elapsed().as_secs_f64());

    if std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
        stage.invite_to_look();
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}
