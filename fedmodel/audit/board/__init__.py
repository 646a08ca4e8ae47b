"""The report on a verified run: for an ethics board, and for a safe setting's output checkers."""
